"""`llamatop start|stop|restart|…|split|unsplit`: a plan, a question, its execution."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from llamatop.errors import Declined, PlanFailed, Refused, Unreachable

if TYPE_CHECKING:
    from llamatop.collect.collector import Collector
    from llamatop.model.cluster import Event
    from llamatop.model.declared import Cluster
    from llamatop.model.plan import Action

ACTIONS: dict[Action, str] = {
    "start": "start units",
    "stop": "drain what serves, then stop it",
    "restart": "drain, restart, wait for health, undrain; one worker after another",
    "enable": "have units start at boot",
    "disable": "have units not start at boot",
    "drain": "mark members down and wait until nothing runs on them",
    "undrain": "put members back in once they answer",
    "split": "run workers of one node as one llama-server over their GPUs",
    "unsplit": "run workers split over GPUs as one llama-server per GPU each",
}
_MORE = {
    "split": " New unit files are made from the first one's text and nginx's file gets a line for"
    " the new worker; the old units stay, stopped and disabled, their server lines down. Units that"
    " an unsplit left so are used again. Undone where the new worker does not come up.",
    "unsplit": " New unit files are made from the running one's text (own CUDA_VISIBLE_DEVICES and"
    " port), nginx's file gets their server lines; the old unit stays, stopped and disabled, its"
    " line down. Where the cards have room for both the new ones serve before the old one leaves."
    " Undone where a new worker does not come up. Several go one after another, each whole before"
    " the next. Needs the rights of `sudoers --write-units`.",
}
_PATIENCE_SECONDS = 10.0
_LOOKS = 3
_DRAINING = ("stop", "restart", "roll", "drain", "undo", "split", "unsplit")
_MOVING = (*_DRAINING, "undrain", "recover")
_WAITING = (*_MOVING, "start")


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the actions on workers that are named."""
    for action, text in ACTIONS.items():
        parser = subparsers.add_parser(
            action, help=text, description=f"{text[0].upper()}{text[1:]}.{_MORE.get(action, '')}"
        )
        parser.add_argument(
            "workers",
            metavar="WORKER",
            nargs="+",
            help="node/short, node/UNIT (tunnels and nginx too) or a glob over workers",
        )
        add_options(parser, action)


def add_options(parser: argparse.ArgumentParser, action: Action) -> None:
    """The options of one action that changes a cluster, and its `run`."""
    add_asking(parser)
    parser.add_argument("--force", action="store_true", help="override the guards")
    if action in ("stop", "restart"):
        parser.add_argument("--now", action="store_true", help="do not drain: cuts requests")
    if action in _WAITING:
        parser.add_argument(
            "--timeout", metavar="S", type=_seconds, help="how long each wait may take"
        )
    if action in _DRAINING:
        parser.add_argument(
            "--on-timeout",
            choices=("undo", "wait", "force"),
            help="a drain that takes longer: put everything back and fail (default), keep"
            " waiting, or go on and cut what still runs",
        )


def add_asking(parser: argparse.ArgumentParser) -> None:
    """What every plan can be asked for; the options that an action lacks have their defaults."""
    parser.add_argument("--dry-run", action="store_true", help="show the plan, do nothing")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="the plan and its results as JSON")
    parser.add_argument(
        "--reason", metavar="TEXT", type=_words, help="why, for the audit log and other operators"
    )
    parser.set_defaults(run=run, now=False, force=False, timeout=None)
    parser.set_defaults(on_timeout="undo", at_once=1, keep=1)


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
    from msgspec.structs import replace

    from llamatop.cli.execution import carry_out, print_json, say
    from llamatop.cli.reading import opened, settled
    from llamatop.operate.service import ClusterOperator

    async with opened(cluster, _warn) as (collector, machines):
        snapshot = await settled(collector)
        if not any(node.reachable for node in snapshot.nodes):
            node = snapshot.nodes[0]
            raise Unreachable(node.name, node.fault or "it does not answer")
        await _all_named(collector, args.workers or ["*"], args.command in _MOVING)
        operator = ClusterOperator(collector, machines)
        plan = await operator.plan(
            args.command,
            args.workers,
            now=args.now,
            force=args.force,
            timeout_seconds=args.timeout,
            at_once=args.at_once,
            keep=args.keep,
        )
        plan = replace(plan, reason=args.reason or "")
        if not args.json:
            say(plan.text(), must_arrive=not args.yes)
        if args.dry_run or not plan.steps:
            failed = "; ".join(plan.stays)
            if args.json:
                print_json(plan, [], collector, failed or None)
            elif not plan.steps and not failed:
                say("nothing to do")
            if failed:
                raise PlanFailed(failed)
            return 0
        if not args.yes:
            if args.json:
                say(plan.text(), to_person=True)
            await _confirm()
        return await carry_out(operator, plan, collector, args.json, args.on_timeout)


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
    from llamatop.operate.waits import look

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
    for _ in range(_LOOKS):
        try:
            resolve(collector.latest, words)
            break
        except UsageError:
            # Where systemctl is slow, a node's first lines come without its units.
            nodes = [n for n in collector.latest.nodes if n.reachable and not n.snapshot.units]
            await look(collector, [node.name for node in nodes])


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


def _words(text: str) -> str:
    from llamatop.model.plan import MOST_REASON
    from llamatop.model.text import plain

    words = " ".join(plain(text).split())
    if len(words) > MOST_REASON:
        raise argparse.ArgumentTypeError(f"{len(words)} characters, more than {MOST_REASON}")
    return words


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds
