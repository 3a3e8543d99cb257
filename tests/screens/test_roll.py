"""A roll on the screen: over whom, how far, paused, late, and taken back."""

from __future__ import annotations

import asyncio

import pytest
from textual.pilot import Pilot

from llamatop.app.screens.main import MainScreen
from tests.screens.stage import Stage, until

pytestmark = pytest.mark.slow


def stage_of(app: Stage) -> str | None:
    return app.plan_run.stage if app.plan_run else None


async def begun(app: Stage, pilot: Pilot[None], *keys: str) -> None:
    """Press the keys, confirm the plan and wait until it runs."""
    await pilot.press(*keys)
    await until(pilot, lambda: stage_of(app) == "ready", "the plan")
    await pilot.press("enter")
    await until(pilot, lambda: stage_of(app) not in ("ready", "planning"), "its begin")


async def test_without_marks_it_is_over_all() -> None:
    app = Stage()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("j", "R")
        await until(pilot, lambda: bool(app.hand.asked), "the plan")
        assert app.hand.asked == [("roll", (), False, False)]


async def test_marked_rows_alone_are_rolled() -> None:
    app = Stage()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("space", "space", "R")
        await until(pilot, lambda: bool(app.hand.asked), "the plan")
        assert app.hand.asked[0][:2] == ("roll", ("node1/gpu0", "node1/gpu1"))


async def test_from_the_detail_it_is_that_worker() -> None:
    app = Stage()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("j", "enter")
        await pilot.pause()
        await pilot.press("R")
        await until(pilot, lambda: bool(app.hand.asked), "the plan")
        assert app.hand.asked[0][:2] == ("roll", ("node1/gpu1",))


async def test_the_palette_rolls_a_whole_node() -> None:
    app = Stage()
    async with app.run_test(size=(100, 40)) as pilot:
        await pilot.press("ctrl+p")
        await until(pilot, lambda: "undrain" in app.shown(), "the palette")
        await pilot.press(*"roll node2")
        await until(pilot, lambda: "the workers of node2" in app.shown(), "the entry")
        await pilot.press("enter")
        await until(pilot, lambda: bool(app.hand.asked), "the plan")
        assert app.hand.asked[0][:2] == ("roll", ("node2/*",))


async def test_plus_and_minus_change_how_many_go_at_once() -> None:
    app = Stage()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("R")
        await until(pilot, lambda: stage_of(app) == "ready", "the plan")
        await pilot.press("plus")
        await until(pilot, lambda: app.hand.at_once == 2 and stage_of(app) == "ready", "two")
        assert "2 at once" in app.shown()
        await pilot.press("minus", "minus")
        await until(pilot, lambda: app.hand.at_once == 1 and stage_of(app) == "ready", "one")


async def test_it_tells_how_far_it_is_and_what_is_left() -> None:
    app = Stage()
    app.hand.gates[4] = asyncio.Event()
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(app, pilot, "R")
        # Three steps of 1.5 s are done, and two groups like that are left.
        await until(pilot, lambda: "2 of 3, 9s left" in app.shown(), "the time left")
        await pilot.press("escape")
        await until(pilot, lambda: "9s left" in app.shown().splitlines()[-2], "the status line")
        app.hand.gates[4].set()
        await until(pilot, lambda: stage_of(app) == "done", "the end")


async def test_space_pauses_between_workers_and_goes_on() -> None:
    app = Stage()
    app.hand.gates[2] = asyncio.Event()
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(app, pilot, "R")
        await until(pilot, lambda: 2 in app.plan_run.results, "the second step")  # type: ignore[union-attr]
        assert "space pause" in app.shown()
        await pilot.press("space")
        assert app.hand.control.paused
        await until(pilot, lambda: "pausing after this one" in app.shown(), "the word")
        app.hand.gates[2].set()
        await until(pilot, lambda: app.hand.control.standing, "the pause")
        app.turn()
        await until(pilot, lambda: "1 of 3, paused" in app.shown(), "the word")
        assert "space go on" in app.shown()
        assert 4 not in app.plan_run.results  # type: ignore[union-attr]
        await pilot.press("space")
        await until(pilot, lambda: stage_of(app) == "done", "the end")


async def test_c_while_paused_aborts() -> None:
    app = Stage()
    app.hand.gates[2] = asyncio.Event()
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(app, pilot, "R")
        await pilot.press("space")
        app.hand.gates[2].set()
        await until(pilot, lambda: app.hand.control.standing, "the pause")
        await pilot.press("c")
        await until(pilot, lambda: stage_of(app) == "cancelled", "the end")
        assert app.hand.rolled_back


@pytest.mark.parametrize(
    ("key", "answer", "ends"), [("f", "force", "done"), ("u", "undo", "failed")]
)
async def test_a_late_drain_asks(key: str, answer: str, ends: str) -> None:
    app = Stage()
    app.hand.late = 2
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(app, pilot, "d")
        await until(pilot, lambda: app.hand.control.asking, "the question")
        app.turn()
        await until(pilot, lambda: "w keep waiting" in app.shown(), "the keys")
        assert "f go on, cut it" in app.shown()
        await pilot.press(key)
        await until(pilot, lambda: stage_of(app) == ends, "the end")
        assert app.hand.answers == [answer]


async def test_a_late_drain_out_of_sight_is_told() -> None:
    app = Stage()
    app.hand.late = 2
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(app, pilot, "d")
        await pilot.press("escape")
        await until(pilot, lambda: app.hand.control.asking, "the question")
        app.turn()
        await until(pilot, lambda: "? drain node1/gpu0  p answers it" in app.shown(), "the line")
        await pilot.press("p", "w")
        await until(pilot, lambda: app.hand.answers == ["wait"], "the answer")


async def test_z_takes_the_last_change_back() -> None:
    app = Stage()
    app.hand.changes = {"about": "takes back: drain node1/gpu0, by ann@desk at 2026-11-21T02:00Z"}
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("z")
        await until(pilot, lambda: stage_of(app) == "ready", "the plan")
        assert app.hand.asked == [("undo", (), False, False)]
        assert "takes back: drain node1/gpu0, by ann@desk" in app.shown()
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, MainScreen)
        assert app.hand.executed == []
