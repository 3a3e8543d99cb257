"""`llamatop [-c FILE] [HOST…]`: the dashboard, composed of reading and changing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from llamatop.cli.options import add_auto_drain, add_hosts, add_record
from llamatop.errors import UsageError

if TYPE_CHECKING:
    from llamatop.app.app import LlamatopApp
    from llamatop.app.switches import Switches
    from llamatop.collect.source import Source
    from llamatop.model.cluster import ClusterSnapshot
    from llamatop.model.declared import Cluster
    from llamatop.operate.live import LiveSource
    from llamatop.operate.operator import Operator
    from llamatop.record.writer import Recorder


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the dashboard, which runs where no command is named."""
    parser = subparsers.add_parser("dashboard", help="the live dashboard (the default)")
    add_hosts(parser)
    add_record(parser)
    add_auto_drain(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, switches: Switches | None = None) -> int:
    """Show the dashboard until the person quits; without a cluster, ask for one first.

    With `switches` a key brings faults on.
    """
    # Textual draws on standard error.
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise UsageError("the dashboard needs a terminal; `llamatop status` prints one sample")
    from llamatop.cli.options import auto_drains, find_cluster

    drains = auto_drains(args)
    cluster = find_cluster(args)
    if cluster is not None:
        from llamatop.cli.recording import recorder

        with recorder(args.record) as record:
            return show(
                cluster,
                theme=args.theme,
                read_only=args.read_only,
                switches=switches,
                record=record,
                drains=drains,
            )
    return _first_run(args)


def show(
    cluster: Cluster,
    *,
    theme: str | None,
    read_only: bool,
    switches: Switches | None = None,
    record: Recorder | None = None,
    drains: bool = False,
) -> int:
    """Paint at once, then connect; returns the exit status."""
    from llamatop.cli import interrupt

    app = composed(
        cluster, theme=theme, read_only=read_only, switches=switches, record=record, drains=drains
    )
    interrupt.run(app.run_async())
    if app.return_code == interrupt.INTERRUPTED:
        return interrupt.INTERRUPTED
    return 70 if app.return_code else 0


def composed(
    cluster: Cluster,
    *,
    theme: str | None,
    read_only: bool,
    switches: Switches | None = None,
    record: Recorder | None = None,
    drains: bool = False,
) -> LlamatopApp:
    """The dashboard over a live cluster, which it connects to once it has painted."""
    from llamatop.app.app import LlamatopApp
    from llamatop.cli.autodrain import draining

    def busy() -> bool:
        return app.plan_run is not None and app.plan_run.active

    @asynccontextmanager
    async def opens() -> AsyncIterator[tuple[Source, Operator | None]]:
        async with (
            _ending_well(app),
            connected(cluster, read_only, record) as (source, operator),
            draining(source, operator if drains else None, busy),
        ):
            yield source, operator

    app = LlamatopApp(
        None,
        None,
        theme=theme,
        read_only=read_only,
        opens=opens,
        first=nothing_known(cluster),
        switches=switches,
    )
    return app


def nothing_known(cluster: Cluster) -> ClusterSnapshot:
    """The snapshot before the first tick: what is declared, and nothing else."""
    from datetime import UTC, datetime

    from llamatop.model.cluster import ClusterSnapshot, NodeView
    from llamatop.model.observed import NodeSnapshot

    nodes = tuple(
        NodeView(node.name, NodeSnapshot(node.name), reachable=False, age_seconds=None)
        for node in cluster.nodes
    )
    return ClusterSnapshot(cluster=cluster, taken_at=datetime.now(UTC), tick=0, nodes=nodes)


@asynccontextmanager
async def connected(
    cluster: Cluster, read_only: bool, record: Recorder | None = None
) -> AsyncIterator[tuple[LiveSource, Operator | None]]:
    """A live cluster to read and, unless read-only, to change; closed with its connections."""
    import asyncio

    # A quarter of a second of imports, in a thread so that keys are answered meanwhile.
    await asyncio.to_thread(_load)
    from llamatop.cli.reading import opened
    from llamatop.operate.service import ClusterOperator

    async with opened(cluster, record=record) as (collector, machines):
        yield collector, None if read_only else ClusterOperator(collector, machines)


def _load() -> None:
    import llamatop.cli.reading
    import llamatop.operate.service  # noqa: F401


@asynccontextmanager
async def _ending_well(app: LlamatopApp) -> AsyncIterator[None]:
    """What ends it from outside rolls back what runs, as quitting does."""
    import asyncio
    import signal

    from llamatop.cli.interrupt import INTERRUPTED

    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGINT)
    numbers = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, app.roll_back_and_quit, INTERRUPTED)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
        signal.signal(signal.SIGINT, before)


def _first_run(args: argparse.Namespace) -> int:
    from llamatop.cli.first import ask

    choice, status = ask(args)
    if choice is None:
        return status
    if choice.demo:
        return _demo(args)
    args.cluster, args.hosts = choice.file, list(choice.hosts)
    return run(args)


def _demo(args: argparse.Namespace) -> int:
    from llamatop.cli.parser import parse

    wanted = parse(["demo"])
    for name in ("interval", "read_only", "theme", "debug", "record"):
        setattr(wanted, name, getattr(args, name))
    status: int = wanted.run(wanted)
    return status
