"""`llamatop discover HOST…`: a cluster file of what is there."""

from __future__ import annotations

import argparse
from pathlib import Path

from llamatop.cli.options import add_hosts
from llamatop.errors import Refused, Unreachable, UsageError


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `discover`."""
    parser = subparsers.add_parser(
        "discover",
        help="write a cluster file from what is there",
        description="Look at the hosts and write a cluster file: nodes, units, tunnels, nginx's"
        " upstream and its members, and the variables for API keys, never a key. With -c FILE,"
        " that file's cluster as it is now.",
    )
    add_hosts(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where to (default, or -: standard output)"
    )
    parser.add_argument("--force", action="store_true", help="overwrite FILE")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write it; 1 where a node could not be read, 3 where none could and nothing was written."""
    from llamatop.cli import interrupt
    from llamatop.cli.options import find_cluster
    from llamatop.cli.reading import complete_sample
    from llamatop.cli.streams import complain
    from llamatop.config import placing
    from llamatop.config.written import written

    if args.cluster is None and not args.hosts:
        raise UsageError("name the hosts to look at, by their ssh names")
    path = None if args.output in (None, "-") else Path(args.output)
    if path is not None:
        try:
            placing.check(path, args.force)
        except Refused as error:
            raise Refused(f"{error}; --force overwrites it") from None
    cluster = find_cluster(args)
    assert cluster is not None
    snapshot = interrupt.run(complete_sample(cluster))
    unread = [node for node in snapshot.nodes if not node.reachable]
    if len(unread) == len(snapshot.nodes):
        raise Unreachable(unread[0].name, unread[0].fault or "it does not answer")
    text = written(snapshot, None if path is None else path.absolute().parent)
    if path is None:
        print(text, end="")
    else:
        placing.place(path, text, args.force)
        complain(f"wrote {path}; look at it with: llamatop -c {path}")
    for node in unread:
        complain(f"{node.name}: {node.fault or 'it does not answer'}")
    return 1 if unread else 0
