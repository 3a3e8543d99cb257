"""`llamatop logs`: the journal of a worker's unit."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from llamatop.cli.options import add_record

if TYPE_CHECKING:
    from llamatop.model.declared import Cluster
    from llamatop.record.writer import Recorder


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `logs`."""
    parser = subparsers.add_parser(
        "logs",
        help="a worker's journal",
        description="Print a worker's journal. A recording made meanwhile holds the cluster, no"
        " journal.",
    )
    parser.add_argument("worker", metavar="WORKER", help="node/short or node/UNIT")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as entries come")
    parser.add_argument(
        "-n", "--lines", metavar="N", type=_lines, default=200, help="last entries (default 200)"
    )
    add_record(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the journal; on a terminal control characters are made visible."""
    from llamatop.cli import interrupt
    from llamatop.cli.options import require_cluster
    from llamatop.cli.recording import recorder

    # Without any file the worker's node is a host, as it is for the other commands.
    cluster = require_cluster(args, otherwise=(args.worker.partition("/")[0],))
    with recorder(args.record) as record:
        return interrupt.run(_logs(cluster, args.worker, args.lines, args.follow, record))


async def _logs(
    cluster: Cluster, worker: str, lines: int, follow: bool, record: Recorder | None
) -> int:
    from llamatop.cli.reading import named_worker, opened
    from llamatop.model.text import plain

    escape = sys.stdout.isatty()
    async with opened(cluster, record=record) as (collector, _):
        name = await named_worker(collector, worker)
        async for line in collector.journal(name, lines, follow):
            print(plain(line) if escape else line, flush=follow)
    return 0


def _lines(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of entries")
    return int(text)
