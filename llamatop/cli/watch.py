"""`llamatop watch`: the sample of `status`, one a tick."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING

from llamatop.cli.options import add_auto_drain, add_hosts, add_record

if TYPE_CHECKING:
    from llamatop.model.cluster import Event
    from llamatop.model.declared import Cluster
    from llamatop.record.writer import Recorder


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `watch`."""
    parser = subparsers.add_parser("watch", help="the same as status, one line a tick")
    add_hosts(parser)
    add_record(parser)
    add_auto_drain(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--count", metavar="N", type=_count, help="end after N lines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print a line a tick until --count or an interrupt; 3 where nothing could be reached."""
    from llamatop.cli import interrupt
    from llamatop.cli.options import auto_drains, require_cluster
    from llamatop.cli.recording import recorder

    drains = auto_drains(args)
    cluster = require_cluster(args)
    with recorder(args.record) as record:
        watching = _watch(cluster, record, as_json=args.json, count=args.count, drains=drains)
        return interrupt.run(watching)


async def _watch(
    cluster: Cluster, record: Recorder | None, *, as_json: bool, count: int | None, drains: bool
) -> int:
    from llamatop.cli.beside import alerting, draining
    from llamatop.cli.execution import say
    from llamatop.cli.reading import opened, ticks
    from llamatop.cli.render_json import to_line
    from llamatop.cli.render_line import summary
    from llamatop.operate.service import ClusterOperator

    line = to_line if as_json else summary
    printed = 0
    reached = False

    def tell(event: Event) -> None:
        # the JSON has its events
        if (drains or cluster.alerts is not None) and not as_json:
            where = event.worker or event.node or "llamatop"
            say(f"{where}: {event.text}", to_person=True, must_arrive=False)

    async with opened(cluster, tell, record) as (collector, machines):
        operator = ClusterOperator(collector, machines) if drains else None
        async with (
            draining(collector, operator, machines),
            alerting(collector, cluster, _ring),
        ):
            async for snapshot in ticks(collector):
                print(line(snapshot), flush=True)
                reached = reached or any(node.reachable for node in snapshot.nodes)
                printed += 1
                if printed == count:
                    break
    return 0 if reached else 3


def _ring() -> None:
    """The bell, where a person is there to hear it."""
    if sys.stderr.isatty():
        with contextlib.suppress(OSError):
            print("\a", end="", file=sys.stderr, flush=True)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of lines")
    return int(text)
