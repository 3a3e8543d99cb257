"""`llamatop status`: one complete sample of the cluster, with rates."""

from __future__ import annotations

import argparse
import sys

from llamatop.cli.options import add_hosts, add_record


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `status`."""
    parser = subparsers.add_parser("status", help="one complete sample of the cluster")
    add_hosts(parser)
    add_record(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the sample; 0 healthy, 1 unhealthy, 3 where nothing could be reached."""
    from llamatop.cli import interrupt
    from llamatop.cli.options import require_cluster
    from llamatop.cli.reading import complete_sample
    from llamatop.cli.recording import recorder

    cluster = require_cluster(args)
    with recorder(args.record) as record:
        snapshot = interrupt.run(complete_sample(cluster, record))
    if args.json:
        from llamatop.cli.render_json import to_line

        print(to_line(snapshot, indent=2))
    else:
        from llamatop.cli.render_table import print_status

        print_status(snapshot, sys.stdout)
    if not any(node.reachable for node in snapshot.nodes):
        return 3
    return 0 if snapshot.healthy else 1
