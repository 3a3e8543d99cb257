"""A plan on the screen: shown, confirmed, watched, cancelled, failed, hidden and found again."""

from __future__ import annotations

import asyncio
import time

from msgspec.structs import replace
from textual.pilot import Pilot

from llamatop.app.screens.leave import LeaveDialog
from llamatop.app.screens.main import MainScreen
from llamatop.app.screens.plan import PlanDialog
from tests.screens.fake import drain_plan
from tests.screens.stage import Stage, until


def stage_of(app: Stage) -> str | None:
    return app.plan_run.stage if app.plan_run else None


async def test_nothing_runs_before_it_was_shown_and_confirmed() -> None:
    app = Stage()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("x")
        await until(pilot, lambda: stage_of(app) == "ready", "the plan")
        text = app.shown()
        assert "sudo -n nginx -t" in text
        assert "+    server 127.0.0.1:37080 max_fails=3 down;" in text
        assert app.hand.executed == []
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, MainScreen)
        assert app.hand.executed == []


async def test_enter_runs_it_and_the_result_stays() -> None:
    app = Stage()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("x")
        await until(pilot, lambda: stage_of(app) == "ready", "the plan")
        await pilot.press("enter")
        await until(pilot, lambda: stage_of(app) == "done", "the end")
        assert app.hand.executed == [app.plan_run.plan]  # type: ignore[union-attr]
        assert "✓ stop llama-server-gpu0.service" in app.shown()
        await pilot.press("escape", "p")
        await pilot.pause()
        assert "✓ stop llama-server-gpu0.service" in app.shown()


async def test_shift_s_takes_a_split_apart_and_joins_marked_workers() -> None:
    app = Stage()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("S")
        await pilot.pause()
        assert app.hand.asked == [], "one worker on one card: nothing to join it with"
        assert any("mark (space) the workers" in n.message for n in app._notifications)
        await pilot.press("space", "space", "S")
        await until(pilot, lambda: stage_of(app) == "ready", "the plan")
        assert app.hand.asked.pop()[:2] == ("split", ("node1/gpu0", "node1/gpu1"))
        await pilot.press("escape", "escape", "g", "j", "j", "S")
        await until(pilot, lambda: stage_of(app) == "ready", "the plan")
        assert app.hand.asked.pop()[:2] == ("unsplit", ("node2/big",))


async def test_what_it_cuts_and_its_warnings_stand_above_it() -> None:
    app = Stage()
    app.hand.changes = {"warnings": ("the last member in",), "cuts_requests": 3}
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("x")
        await until(pilot, lambda: stage_of(app) == "ready", "the plan")
        assert "▲ the last member in" in app.shown()
        assert "▲ cuts 3 requests in flight" in app.shown()


async def test_w_says_why_and_the_plan_carries_it() -> None:
    app = Stage()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("r")
        await until(pilot, lambda: stage_of(app) == "ready", "the plan")
        await pilot.press("w", *"n", "e", "w", "space", "escape")
        assert "why:" not in app.shown()
        await pilot.press("w", *"fan", "space", *"[red]y", "enter")
        await until(pilot, lambda: "why: fan [red]y" in app.shown(), "the reason")
        await pilot.press("n")
        await until(pilot, lambda: len(app.hand.asked) == 2, "the other plan")
        await until(pilot, lambda: stage_of(app) == "ready", "the other plan")
        assert "why: fan [red]y" in app.shown()
        await pilot.press("enter")
        await until(pilot, lambda: stage_of(app) == "done", "the end")
    assert [plan.reason for plan in app.hand.executed] == ["fan [red]y"]


async def test_a_long_plan_begins_with_its_steps_alone() -> None:
    app = Stage()
    steps = drain_plan("stop", ["node1/gpu0"]).steps
    app.hand.changes = {"steps": steps * 3}
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("x")
        await until(pilot, lambda: stage_of(app) == "ready", "the plan")
        text = app.shown()
        assert text.index("9 stop") < text.index("the same with every command and diff")
        assert text.index("the same with") < text.index("$ sudo")


async def test_now_plans_again_without_the_drain() -> None:
    app = Stage()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("r")
        await until(pilot, lambda: stage_of(app) == "ready", "the plan")
        await pilot.press("n")
        await until(pilot, lambda: len(app.hand.asked) == 2, "the other plan")
        assert app.hand.asked[1] == ("restart", ("node1/gpu0",), True, False)


async def test_a_refusal_is_told_and_can_be_forced() -> None:
    app = Stage()
    app.hand.refuse = "node1/gpu0 is the last member in of llama_cluster; --force overrides this"
    async with app.run_test(size=(50, 30)) as pilot:
        await pilot.press("d")
        await until(pilot, lambda: stage_of(app) == "refused", "the refusal")
        words = " ".join(app.shown().replace("▌", " ").split())
        assert "is the last member in of llama_cluster; key f overrides this" in words
        assert "--force" not in words
        await pilot.press("enter")
        await pilot.press("d", "f")
        await until(pilot, lambda: stage_of(app) == "ready", "the forced plan")
        assert app.hand.executed == []


async def test_a_refusal_names_the_keys_that_override_it_and_no_other() -> None:
    app = Stage()
    app.hand.refuse = "it is not known which server line leads to it; --now skips the drain"
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("x")
        await until(pilot, lambda: stage_of(app) == "refused", "the refusal")
        assert "key n skips the drain" in app.shown()
        assert "n now, without draining" in app.shown()
        assert "force" not in app.shown()
        await pilot.press("n")
        await until(pilot, lambda: len(app.hand.asked) == 2, "the other plan")
        assert app.hand.asked[1] == ("stop", ("node1/gpu0",), True, False)


async def test_a_plan_without_steps_says_why_and_runs_nothing() -> None:
    app = Stage()
    app.hand.changes = {"steps": (), "nothing": ("node1/gpu0 is stopped already",)}
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("x")
        await until(pilot, lambda: stage_of(app) == "nothing", "the plan")
        assert "is stopped already" in app.shown()
        await pilot.press("enter")
        await pilot.pause()
        assert app.hand.executed == []


async def test_a_failure_says_what_was_done_and_undone() -> None:
    app = Stage()
    app.hand.fail = 3
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("x")
        await until(pilot, lambda: stage_of(app) == "ready", "the plan")
        await pilot.press("enter")
        await until(pilot, lambda: stage_of(app) == "failed", "the failure")
        text = app.shown()
        assert "a password is required" in text
        assert "the upstream is as it was before" in text
        assert "↺" in text


async def at_the_second_step(app: Stage, pilot: Pilot[None]) -> None:
    """Ask for a stop, confirm it, and wait until its second step has begun."""
    await pilot.press("x")
    await until(pilot, lambda: stage_of(app) == "ready", "the plan")
    await pilot.press("enter")
    await until(
        pilot, lambda: app.plan_run is not None and 2 in app.plan_run.results, "the second step"
    )


async def test_c_cancels_and_rolls_back() -> None:
    app = Stage()
    app.hand.gates[2] = asyncio.Event()
    async with app.run_test(size=(100, 30)) as pilot:
        await at_the_second_step(app, pilot)
        await pilot.press("c")
        await until(pilot, lambda: stage_of(app) == "cancelled", "the end")
        assert app.hand.rolled_back
        assert "cancelled" in app.shown()


async def test_a_running_plan_turns_its_spinner() -> None:
    app = Stage(clock=time.monotonic)
    gate = app.hand.gates[2] = asyncio.Event()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("x")
        await until(pilot, lambda: stage_of(app) == "ready", "the plan")
        # Nothing turns while it waits to be confirmed.
        app.turn()
        frame = app.frame
        await pilot.press("enter")
        await until(pilot, lambda: app.frame >= frame + 2, "two turns")
        gate.set()
        await until(pilot, lambda: stage_of(app) == "done", "the end")


async def test_escape_hides_a_running_plan_and_p_finds_it() -> None:
    app = Stage()
    gate = app.hand.gates[2] = asyncio.Event()
    async with app.run_test(size=(100, 30)) as pilot:
        await at_the_second_step(app, pilot)
        await pilot.press("escape")
        await until(
            pilot, lambda: "stop node1/gpu0  p shows it  2/3" in app.shown(), "the status line"
        )
        await pilot.press("d")
        await pilot.pause()
        assert len(app.hand.asked) == 1
        gate.set()
        await until(pilot, lambda: "stop node1/gpu0  p shows it  done" in app.shown(), "the end")
        await pilot.press("p")
        await pilot.pause()
        assert isinstance(app.screen, PlanDialog)


async def test_the_dashboard_lives_behind_the_dialog() -> None:
    app = Stage()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("d")
        await until(pilot, lambda: stage_of(app) == "ready", "the plan")
        app.fake.push(replace(app.fake.latest, tick=41, healthy=False))
        await until(pilot, lambda: "✗ unhealthy" in app.shown(), "the new snapshot")


async def test_what_a_plan_does_to_its_workers_is_no_alarm() -> None:
    app = Stage()
    app.hand.gates[2] = asyncio.Event()
    first, *others = app.fake.latest.workers
    silent = replace(first, sample=replace(first.sample, health="unreachable", fault=None))
    async with app.run_test(size=(100, 30)) as pilot:
        await at_the_second_step(app, pilot)
        await pilot.press("escape")
        app.fake.push(replace(app.fake.latest, tick=41, workers=(silent, *others)))
        await until(pilot, lambda: app.snapshot.tick == 41, "the new snapshot")
        assert "its endpoint does not answer" not in app.shown()
        app.hand.gates[2].set()
        await until(pilot, lambda: stage_of(app) == "done", "the end")
        app.fake.push(replace(app.fake.latest, tick=42))
        await until(pilot, lambda: "its endpoint does not answer" in app.shown(), "the alert")


async def test_quitting_asks_while_a_plan_runs_then_rolls_back() -> None:
    app = Stage()
    app.hand.gates[2] = asyncio.Event()
    async with app.run_test(size=(100, 30)) as pilot:
        await at_the_second_step(app, pilot)
        await pilot.press("escape", "q")
        await pilot.pause()
        assert isinstance(app.screen, LeaveDialog)
        await pilot.press("escape")
        await pilot.pause()
        assert app.plan_run.active  # type: ignore[union-attr]
        await pilot.press("q", "enter")
        await until(pilot, lambda: app.hand.rolled_back, "the rollback")
    assert app.return_code == 0


async def test_y_copies_exactly_what_dry_run_prints() -> None:
    app = Stage()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("d")
        await until(pilot, lambda: stage_of(app) == "ready", "the plan")
        await pilot.press("y")
        await pilot.pause()
        assert app.plan_run is not None
        assert app.plan_run.plan is not None
        assert app.copied == app.plan_run.plan.text()
