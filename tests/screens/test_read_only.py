"""Read-only means: no key, no palette entry and no click can ask for a plan."""

from __future__ import annotations

import inspect
import string

import pytest

from llamatop.app.actions import KEYS
from llamatop.app.commands import Commands
from llamatop.app.screens.advice import AdviceScreen
from llamatop.app.screens.detail import DetailScreen
from llamatop.app.screens.logs import LogScreen
from tests.screens.stage import Stage, until

pytestmark = pytest.mark.slow

CHANGING = {key.action for key in KEYS if key.changes}
OPENS = {"main": "", "detail": "enter", "log": "l", "advice": "a"}


@pytest.mark.parametrize("screen", OPENS)
async def test_no_screen_binds_a_changing_key(screen: str) -> None:
    app = Stage(read_only=True)
    async with app.run_test(size=(120, 40)) as pilot:
        if OPENS[screen]:
            await pilot.press(OPENS[screen])
        await pilot.pause()
        kinds = {
            "main": type(app.main),
            "detail": DetailScreen,
            "log": LogScreen,
            "advice": AdviceScreen,
        }
        assert isinstance(app.screen, kinds[screen])
        bound = {active.binding.action for active in app.screen.active_bindings.values()}
        assert bound
        assert bound.isdisjoint(CHANGING)
        changing = ("app.change", "app.roll", "app.undo", "screen.mend")
        assert not [a for a in bound if a.startswith(changing)]


async def test_no_key_of_the_keyboard_asks_for_a_plan() -> None:
    app = Stage(read_only=True)
    async with app.run_test(size=(80, 24)) as pilot:
        for key in [*(string.ascii_letters.replace("q", "")), "space", "plus", "minus", "enter"]:
            await pilot.press(key)
            while len(app.screen_stack) > 1:
                app.pop_screen()
        await pilot.pause()
        assert app.hand.asked == []
        assert app.plan_run is None
        assert app.table.marked == set()


async def test_no_palette_entry_asks_for_a_plan() -> None:
    app = Stage(read_only=True)
    async with app.run_test(size=(120, 40)) as pilot:
        provider = Commands(app.screen)
        listed = provider._listed()
        words = " ".join(f"{name} {text}" for name, text, _ in listed)
        assert "theme" in words
        for word in ("start", "stop", "restart", "drain", "roll", "undo", "mark"):
            assert word not in {name for name, _, _ in listed}
            assert f"{word}:" not in words
        assert not [name for name, _, _ in listed if name.startswith("roll")]
        for name, _, run in listed:
            if name not in ("picture", "quit", "shell"):
                result = run()
                if inspect.isawaitable(result):
                    await result
                while len(app.screen_stack) > 1:
                    app.pop_screen()
        await pilot.pause()
        assert app.hand.asked == []
        assert app.plan_run is None


async def test_the_palette_that_may_change_offers_all_of_it() -> None:
    app = Stage()
    async with app.run_test(size=(120, 40)):
        names = {name for name, _, _ in Commands(app.screen)._listed()}
        assert {"start", "stop", "restart", "drain", "undrain", "roll", "roll node1"} <= names
        assert any(name.startswith("undo") for name in names)


@pytest.mark.parametrize("action", sorted(CHANGING))
async def test_the_actions_themselves_refuse(action: str) -> None:
    app = Stage(read_only=True)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        if action.startswith("app."):
            await app.screen.run_action(action)
        await app.run_action("change('stop')")
        await app.run_action("roll")
        await until(pilot, lambda: "shown read-only" in app.shown(), "the reason")
        assert app.hand.asked == []
        assert app.plan_run is None
