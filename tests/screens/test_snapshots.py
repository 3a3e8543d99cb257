"""The screens as pictures: a change in any of them is seen in the review of its SVG."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from textual.pilot import Pilot

from llamatop.model.cluster import ClusterSnapshot
from tests.screens import clusters
from tests.screens.stage import Stage, settled, until

Compare = Callable[..., bool]
Act = Callable[[Pilot[None]], Awaitable[None]]
SIZES = {"80x24": (80, 24), "200x60": (200, 60), "40x15": (40, 15), "10x3": (10, 3)}


def pressing(*keys: str) -> Act:
    """Press the keys, then wait for journals."""

    async def act(pilot: Pilot[None]) -> None:
        await pilot.press(*keys)
        await settled(pilot)

    return act


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("make", [clusters.well, clusters.ill], ids=["well", "ill"])
def test_main(snap_compare: Compare, make: Callable[[], ClusterSnapshot], size: str) -> None:
    assert snap_compare(Stage(make()), terminal_size=SIZES[size], run_before=settled)


def test_hostile_strings(snap_compare: Compare) -> None:
    app = Stage(clusters.hostile())
    assert snap_compare(app, terminal_size=(120, 40), run_before=settled)


def test_before_the_first_tick(snap_compare: Compare) -> None:
    assert snap_compare(Stage(clusters.empty()), terminal_size=(80, 24))


def test_no_color(snap_compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(Stage(clusters.ill()), terminal_size=(80, 24), run_before=settled)


def test_filter_sort_and_marks(snap_compare: Compare) -> None:
    app = Stage(clusters.ill())
    act = pressing("o", "space", "space", "slash", *"node", "enter")
    assert snap_compare(app, terminal_size=(80, 24), run_before=act)


def test_detail(snap_compare: Compare) -> None:
    app = Stage(clusters.well())
    assert snap_compare(app, terminal_size=(80, 24), run_before=pressing("enter"))


def test_log_with_search(snap_compare: Compare) -> None:
    async def act(pilot: Pilot[None]) -> None:
        await pilot.press("l")
        await settled(pilot)
        await pilot.press("slash", *"task 441", "enter")
        await pilot.pause()

    app = Stage(clusters.well())
    assert snap_compare(app, terminal_size=(80, 24), run_before=act)


def test_help(snap_compare: Compare) -> None:
    app = Stage(clusters.well())
    assert snap_compare(app, terminal_size=(80, 50), run_before=pressing("question_mark"))


@pytest.mark.parametrize("size", ["80x24", "40x15"])
def test_plan_to_confirm(snap_compare: Compare, size: str) -> None:
    app = Stage(clusters.well())
    app.hand.changes = {
        "warnings": ("node1/gpu1 is then the only member in",),
        "cuts_requests": 2,
    }
    assert snap_compare(app, terminal_size=SIZES[size], run_before=pressing("x"))


def test_plan_running(snap_compare: Compare) -> None:
    async def act(pilot: Pilot[None]) -> None:
        await pilot.press("x", "enter")
        await until(pilot, lambda: 2 in app.plan_run.results, "the second step")  # type: ignore[union-attr]

    app = Stage(clusters.well())
    app.hand.gates[2] = asyncio.Event()
    assert snap_compare(app, terminal_size=(80, 24), run_before=act)


def test_plan_in_the_background(snap_compare: Compare) -> None:
    async def act(pilot: Pilot[None]) -> None:
        await pilot.press("x", "enter")
        await until(pilot, lambda: 2 in app.plan_run.results, "the second step")  # type: ignore[union-attr]
        await pilot.press("escape")
        await pilot.pause()

    app = Stage(clusters.well())
    app.hand.gates[2] = asyncio.Event()
    assert snap_compare(app, terminal_size=(80, 24), run_before=act)


def test_plan_failed(snap_compare: Compare) -> None:
    async def act(pilot: Pilot[None]) -> None:
        await pilot.press("x", "enter")
        await until(pilot, lambda: app.plan_run.stage == "failed", "the failure")  # type: ignore[union-attr]

    app = Stage(clusters.well())
    app.hand.fail = 3
    assert snap_compare(app, terminal_size=(80, 24), run_before=act)
