"""`llamatop discover HOST…`: a cluster file of what is there."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from llamatop.cli.options import add_hosts, add_record
from llamatop.errors import NodeError, Refused, Unreachable, UsageError

if TYPE_CHECKING:
    from llamatop.model.cluster import ClusterSnapshot
    from llamatop.model.declared import Cluster
    from llamatop.record.writer import Recorder

_HALF_READ = "it answers so slowly that it was not read whole; look at it again"
# What is looked at but once need not wait for the ticks of a long interval.
_LONGEST_INTERVAL_SECONDS = 1.0


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
    add_record(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where to (default, or -: standard output)"
    )
    parser.add_argument("--force", action="store_true", help="overwrite FILE")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write it; 1 where a node was not read whole, 3 where none was reached.

    Where none was read whole nothing is written.
    """
    from llamatop.cli import interrupt
    from llamatop.cli.options import find_cluster
    from llamatop.cli.recording import recorder
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
    with recorder(args.record) as record:
        snapshot = interrupt.run(look(cluster, record))
    unread = [node for node in snapshot.nodes if not node.reachable]
    if len(unread) == len(snapshot.nodes):
        half = [node for node in unread if node.fault == _HALF_READ]
        if half:
            raise NodeError(half[0].name, _HALF_READ)
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


async def look(cluster: Cluster, record: Recorder | None = None) -> ClusterSnapshot:
    """The cluster as it is; a node that was not read whole in time is one that was not reached."""
    from llamatop.cli.reading import opened, settled

    interval = min(cluster.interval_seconds, _LONGEST_INTERVAL_SECONDS)
    quick = replace(cluster, interval_seconds=interval)
    async with opened(quick, record=record) as (collector, _):
        snapshot = await settled(collector)
        nodes = tuple(
            node
            if collector.settled(node.name) or not node.reachable
            else replace(node, reachable=False, fault=_HALF_READ)
            for node in snapshot.nodes
        )
    return replace(snapshot, cluster=cluster, nodes=nodes)
