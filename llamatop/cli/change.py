"""`llamatop start|stop|restart|enable|disable|drain|undrain`: a plan, a question, its execution."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING

from llamatop.errors import Declined, LlamatopError, Refused, Unreachable

if TYPE_CHECKING:
    from llamatop.collect.collector import Collector
    from llamatop.model.cluster import Event
    from llamatop.model.declared import Cluster
    from llamatop.model.plan import Plan, StepResult
    from llamatop.operate.operator import Operator

ACTIONS = {
    "start": "start units",
    "stop": "drain what serves, then stop it",
    "restart": "drain, restart, wait for health, undrain; one worker after another",
    "enable": "have units start at boot",
    "disable": "have units not start at boot",
    "drain": "mark members down and wait until nothing runs on them",
    "undrain": "put members back in once they answer",
}
_PATIENCE_SECONDS = 5.0
_MOVING = ("stop", "restart", "drain", "undrain")
_WAITING = ("stop", "restart", "start", "drain", "undrain")


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the seven actions."""
    for action, text in ACTIONS.items():
        parser = subparsers.add_parser(action, help=text, description=f"{text.capitalize()}.")
        parser.add_argument(
            "workers",
            metavar="WORKER",
            nargs="+",
            help="node/short, node/UNIT (tunnels and nginx too) or a glob over workers",
        )
        parser.add_argument("--dry-run", action="store_true", help="show the plan, do nothing")
        parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
        parser.add_argument("--json", action="store_true", help="the plan and its results as JSON")
        parser.add_argument("--force", action="store_true", help="override the guards")
        if action in ("stop", "restart"):
            parser.add_argument("--now", action="store_true", help="do not drain: cuts requests")
        if action in _WAITING:
            parser.add_argument(
                "--timeout", metavar="S", type=_seconds, help="how long each wait may take"
            )
        parser.set_defaults(run=run, now=False, timeout=None)


def run(args: argparse.Namespace) -> int:
    """Make the plan, show it, ask, carry it out; the exit status as CLI.md defines it."""
    from llamatop.cli import interrupt
    from llamatop.cli.options import require_cluster

    if args.read_only and not args.dry_run:
        raise Refused(f"read-only: no {args.command}; leave out --read-only, or add --dry-run")
    if not args.yes and not args.dry_run and not _can_ask():
        raise Declined("there is no terminal to ask on, so nothing was done; add --yes")
    return interrupt.run(_change(require_cluster(args), args))


async def _change(cluster: Cluster, args: argparse.Namespace) -> int:
    from llamatop.cli.reading import opened, settled
    from llamatop.operate.service import ClusterOperator

    async with opened(cluster, _warn) as (collector, machines):
        snapshot = await settled(collector)
        if not any(node.reachable for node in snapshot.nodes):
            node = snapshot.nodes[0]
            raise Unreachable(node.name, node.fault or "it does not answer")
        await _all_named(collector, args.workers, args.command in _MOVING)
        operator = ClusterOperator(collector, machines)
        plan = await operator.plan(
            args.command,
            args.workers,
            now=args.now,
            force=args.force,
            timeout_seconds=args.timeout,
        )
        if not args.json:
            _say(plan.text(), must_arrive=not args.yes)
        if args.dry_run or not plan.steps:
            if args.json:
                _print_json(plan, [], collector, None)
            elif not plan.steps:
                _say("nothing to do")
            return 0
        if not args.yes:
            if args.json:
                _say(plan.text(), to_person=True)
            await _confirm()
        return await _carry_out(operator, plan, collector, args.json)


def _warn(event: Event) -> None:
    """What the dashboard would show beside the plan; how the plan ends is told anyway."""
    from llamatop.cli.streams import complain

    if event.severity == "warning":
        complain(event.text)


async def _all_named(collector: Collector, words: list[str], moving: bool) -> None:
    """Wait a little for what is still unknown: a node half read, a server line half matched.

    A word that means nothing on nodes that were read will mean nothing later. `moving` says that
    the members behind the words matter.
    """
    import asyncio
    from contextlib import aclosing

    from llamatop.errors import UsageError
    from llamatop.operate.targets import resolve

    def certain() -> bool:
        snapshot = collector.latest
        try:
            targets = resolve(snapshot, words)
        except UsageError:
            return all(collector.settled(node.name) for node in collector.cluster.nodes)
        return (
            not moving
            or snapshot.balancer_node is None
            or all(t.worker is None or t.worker.membership is not None for t in targets)
        )

    try:
        async with asyncio.timeout(_PATIENCE_SECONDS), aclosing(collector.snapshots()) as snapshots:
            while not certain():
                await anext(snapshots)
    except TimeoutError:
        pass


async def _carry_out(operator: Operator, plan: Plan, collector: Collector, as_json: bool) -> int:
    """Execute with progress; an interrupt, a hang-up or an end of the session rolls back first."""
    import asyncio
    import signal

    from llamatop.cli.progress import Progress

    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    progress = Progress(quiet=as_json)
    stopping = False

    def stop() -> None:
        nonlocal stopping
        if task is not None and not stopping:
            stopping = True
            progress.note("stopping: putting back what was changed")
            task.cancel()
        else:
            progress.note("still putting back; please wait")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    results: list[StepResult] = []
    error: str | None = None
    try:
        async for result in operator.execute(plan):
            progress.show(result)
            if result.state != "running":
                results.append(result)
    except asyncio.CancelledError:
        error = "interrupted"
        raise
    except LlamatopError as failure:
        error = str(failure)
        raise
    finally:
        progress.end()
        # What was done counts, whether or not its record can still be printed.
        with contextlib.suppress(OSError):
            if as_json:
                _print_json(plan, results, collector, error or "")
            else:
                for line in _read_back(plan, collector):
                    _say(line)
    return 0


def _read_back(plan: Plan, collector: Collector) -> list[str]:
    """What the targets look like now."""
    lines = []
    for worker in collector.latest.workers:
        if worker.name in plan.targets:
            state = f"{worker.unit.active_state}/{worker.unit.sub_state}"
            health = worker.sample.health or "health unknown"
            member = f", membership {worker.membership}" if worker.membership else ""
            lines.append(f"{worker.name}: {state}, {health}{member}")
    return lines


def _print_json(
    plan: Plan, results: list[StepResult], collector: Collector, error: str | None
) -> None:
    """The plan, each step's end, and the targets as read back; `ok` is null where nothing ran."""
    import json

    from llamatop.operate.record import plan_record, result_record

    workers = [
        {
            "name": worker.name,
            "unit_state": worker.unit.active_state,
            "unit_sub_state": worker.unit.sub_state,
            "health": worker.sample.health,
            "membership": worker.membership,
        }
        for worker in collector.latest.workers
        if worker.name in plan.targets
    ]
    record = {
        "plan": plan_record(plan),
        "results": [result_record(result) for result in results],
        "ok": None if error is None else not error,
        "error": error or None,
        "workers": workers,
    }
    text = json.dumps(record, indent=2, ensure_ascii=False)
    print(text.encode("utf-8", "replace").decode())


async def _confirm() -> None:
    """Ask on the terminal without stopping the reading; raises Declined for anything but yes."""
    import asyncio

    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)

    def readable() -> None:
        loop.remove_reader(sys.stdin)
        answer.set_result(sys.stdin.readline())

    loop.add_reader(sys.stdin, readable)
    try:
        said = await answer
    finally:
        loop.remove_reader(sys.stdin)
    if said.strip().lower() not in ("y", "yes"):
        raise Declined("declined; nothing was done")


def _can_ask() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _say(text: str, to_person: bool = False, must_arrive: bool = True) -> None:
    """Print lines that hold text from nodes: no control character reaches the terminal."""
    from llamatop.model.text import plain

    with contextlib.nullcontext() if must_arrive else contextlib.suppress(OSError):
        for line in text.split("\n"):
            stream = sys.stderr if to_person else sys.stdout
            print(plain(line.rstrip("\r")), file=stream, flush=True)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds
