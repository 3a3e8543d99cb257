"""`llamatop [-c FILE] [HOST…]`: the dashboard, composed of reading and changing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from llamatop.cli.options import add_auto_drain, add_hosts, add_record
from llamatop.errors import UsageError

if TYPE_CHECKING:
    from llamatop.app.app import LlamatopApp
    from llamatop.app.switches import Switches
    from llamatop.collect.collector import Collector
    from llamatop.collect.link import Clear
    from llamatop.collect.source import Source
    from llamatop.model.cluster import ClusterSnapshot
    from llamatop.model.declared import Cluster
    from llamatop.operate.operator import Operator
    from llamatop.record.writer import Recorder
    from llamatop.transport.machines import Machines


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

    with _no_looking_for_cycles():
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


@contextmanager
def _no_looking_for_cycles() -> Iterator[None]:
    """A seventh of the time that imports take would go into it."""
    import gc

    gc.disable()
    try:
        yield
    finally:
        gc.enable()


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

    with _no_looking_for_cycles():
        app = composed(
            cluster,
            theme=theme,
            read_only=read_only,
            switches=switches,
            record=record,
            drains=drains,
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
    import asyncio
    import contextlib

    from llamatop.app import cycles
    from llamatop.app.app import LlamatopApp
    from llamatop.cli.beside import alerting

    @asynccontextmanager
    async def opens() -> AsyncIterator[tuple[Source, Operator | None]]:
        async with (
            _ending_well(app),
            cycles.seldom(app.turns.quiet),
            connected(cluster, record, app.turns.clear) as (collector, machines),
            alerting(collector, cluster, app.bell),
        ):
            bringing = asyncio.create_task(_bring_rest(app, collector, machines, drains))
            try:
                yield collector, None
            finally:
                bringing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await bringing

    app = LlamatopApp(
        None,
        None,
        theme=theme,
        read_only=read_only,
        opens=opens,
        first=nothing_known(cluster),
        switches=switches,
    )
    app.auto_drains = drains
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
    cluster: Cluster, record: Recorder | None = None, clear: Clear | None = None
) -> AsyncIterator[tuple[Collector, Machines]]:
    """A live cluster; closed with its connections.

    The first node is logged in to while what reads them is still being loaded.
    """
    import asyncio

    from llamatop.collect.order import first_to_last

    # In threads, so that keys are answered meanwhile.
    probe = asyncio.ensure_future(asyncio.to_thread(_load_probe, cluster))
    try:
        machines: Machines = await asyncio.to_thread(_load_machines, cluster)
    except BaseException:
        probe.cancel()
        raise
    try:
        for first in first_to_last(cluster)[:1]:
            machines.begin(first)
        reading = await asyncio.to_thread(_load, "llamatop.cli.reading")
        await probe
        async with reading.opened(cluster, record=record, clear=clear, machines=machines) as parts:
            yield parts
    finally:
        probe.cancel()
        await machines.close()


async def _bring_rest(
    app: LlamatopApp, collector: Collector, machines: Machines, drains: bool
) -> None:
    """What judges and changes is loaded when the first node is shown, or none is within a second.

    Before that there is nothing to change. Goes on where it `drains` dead members by itself.
    """
    import asyncio
    import contextlib

    async def first() -> None:
        async for snapshot in collector.snapshots():
            if any(node.reachable for node in snapshot.nodes):
                break
        # The app hears of it in the same round; painting would have to share the processor.
        await asyncio.sleep(0)
        painted = asyncio.Event()
        app.call_after_refresh(painted.set)
        await painted.wait()

    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(first(), 1.0)
    await asyncio.to_thread(_load, "llamatop.advise.doctor")
    if app.read_only:
        return
    service = await asyncio.to_thread(_load, "llamatop.operate.service")
    app.operator = operator = service.ClusterOperator(collector, machines)
    if drains:
        from llamatop.cli.beside import draining

        def busy() -> bool:
            return app.plan_run is not None and app.plan_run.active

        async with draining(collector, operator, machines, busy):
            await asyncio.Event().wait()


def _load_machines(cluster: Cluster) -> Any:
    """What connects, with the ssh that most clusters need: a tenth of a second of imports."""
    if any(node.ssh not in (None, "local") for node in cluster.nodes):
        _load("llamatop.transport.ssh")
    return _load("llamatop.transport.machines").Machines(cluster)


def _load_probe(cluster: Cluster) -> None:
    """The probe, ready to be sent, where there is a node that it runs on."""
    if any(node.ssh is not None for node in cluster.nodes):
        _load("llamatop.probe.bundle").payload()


def _load(name: str) -> Any:
    import importlib

    return importlib.import_module(name)


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
