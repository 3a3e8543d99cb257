"""`llamatop sudoers`: what a user may do on each node for this cluster's plans, and no more."""

from __future__ import annotations

import argparse

from llamatop.cli.options import add_hosts
from llamatop.errors import NodeError, UsageError


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `sudoers`."""
    text = "print the smallest sudoers fragment that this cluster's plans need"
    parser = subparsers.add_parser("sudoers", help=text, description=f"{text.capitalize()}.")
    add_hosts(parser)
    parser.add_argument(
        "--user", metavar="U", required=True, help="who is to run them (or %%GROUP)"
    )
    parser.add_argument(
        "--node", metavar="NODE", help="that node's alone; default: one after another"
    )
    parser.add_argument(
        "--write-units",
        action="store_true",
        help="also what split and unsplit need: to write unit files, which is as good as root",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the fragments; raises NodeError where a node cannot be read."""
    import asyncio

    from llamatop.cli.options import require_cluster
    from llamatop.model.declared import Cluster

    async def fragments(cluster: Cluster) -> list[str]:
        from llamatop.cli.reading import opened, settled
        from llamatop.operate import sudoers

        async with opened(cluster) as (collector, machines):
            snapshot = await settled(collector)
            names = [node.name for node in cluster.nodes if node.ssh is not None]
            if args.node is not None:
                if args.node not in names:
                    known = ", ".join(names) or "none"
                    raise UsageError(f"no node with ssh is called {args.node}; known: {known}")
                names = [args.node]
            texts = []
            for name in names:
                view = snapshot.node(name)
                if not view.reachable:
                    raise NodeError(name, view.fault or "it does not answer")
                needed = await sudoers.needs(snapshot, machines, name, write_units=args.write_units)
                texts.append(await sudoers.fragment(machines, needed, args.user))
            return texts

    print("\n".join(asyncio.run(fragments(require_cluster(args)))), end="")
    return 0
