"""A plan carried out from the command line: progress, signals, and what is printed at the end."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from llamatop.errors import LlamatopError, PlanFailed

if TYPE_CHECKING:
    from llamatop.collect.collector import Collector
    from llamatop.model.plan import Plan, StepResult
    from llamatop.operate.control import OnTimeout
    from llamatop.operate.operator import Operator


async def carry_out(
    operator: Operator, plan: Plan, collector: Collector, as_json: bool, on_timeout: OnTimeout
) -> int:
    """Execute with progress; an interrupt, a hang-up or an end of the session rolls back first.

    ^Z pauses between two groups of workers, and goes on when it comes again or with SIGCONT.
    """
    import asyncio
    import signal

    from llamatop.cli.progress import Progress
    from llamatop.operate.control import Control

    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    progress = Progress(plan, quiet=as_json)
    control = Control(on_timeout)
    stopping = False

    def stop(number: signal.Signals) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            progress.note("stopping: putting back what was changed")
            task.cancel()
        elif number == signal.SIGINT and not control.hurried.is_set():
            control.hurry()
            progress.note("no longer waiting for what does not serve yet; still putting back")
        else:
            progress.note("still putting back; please wait")

    def pause() -> None:
        if plan.batches < 2 or stopping:
            progress.note("this cannot pause: ctrl-c stops it and puts back what was changed")
        elif control.paused:
            resume()
        else:
            control.pause()
            progress.note("pausing after the worker at hand: ^Z again goes on, ctrl-c stops")

    def resume() -> None:
        if control.paused:
            control.resume()
            progress.note("going on")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)
    loop.add_signal_handler(signal.SIGTSTP, pause)
    loop.add_signal_handler(signal.SIGCONT, resume)
    results: list[StepResult] = []
    error: str | None = None
    try:
        async for result in operator.execute(plan, control):
            progress.show(result)
            if result.state != "running":
                results.append(result)
        if plan.stays:
            raise PlanFailed("; ".join(plan.stays))
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
                print_json(plan, results, collector, error or "")
            else:
                for line in _read_back(plan, collector):
                    say(line)
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


def print_json(
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


def say(text: str, to_person: bool = False, must_arrive: bool = True) -> None:
    """Print lines that hold text from nodes: no control character reaches the terminal."""
    from llamatop.model.text import plain

    with contextlib.nullcontext() if must_arrive else contextlib.suppress(OSError):
        for line in text.split("\n"):
            stream = sys.stderr if to_person else sys.stdout
            print(plain(line.rstrip("\r")), file=stream, flush=True)
