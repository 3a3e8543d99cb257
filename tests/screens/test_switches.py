"""Faults brought on by a key, where the cluster is one to practise on."""

from __future__ import annotations

from dataclasses import dataclass, field

from llamatop.app.commands import Commands
from llamatop.app.screens.switches import SwitchesScreen
from tests.screens.stage import Stage, until


@dataclass
class Lamp:
    """One switch."""

    kind: str
    about: str
    on: bool = False


@dataclass
class Lamps:
    """Switches that do nothing but turn."""

    lamps: list[Lamp] = field(
        default_factory=lambda: [Lamp("dark", "the light is off"), Lamp("[b]wet", "it rains")]
    )
    deaf: bool = False

    def listed(self) -> list[Lamp]:
        return self.lamps

    def turn(self, kind: str) -> None:
        if self.deaf:
            raise FileNotFoundError("the demo has ended")
        lamp = next(lamp for lamp in self.lamps if lamp.kind == kind)
        lamp.on = not lamp.on


def stage(lamps: Lamps | None) -> Stage:
    app = Stage()
    app.switches = lamps
    return app


async def test_the_key_lists_them_and_space_turns_the_selected_one() -> None:
    lamps = Lamps()
    app = stage(lamps)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("F")
        await until(pilot, lambda: "the light is off" in app.shown(), "the list")
        await pilot.press("j", "space")
        assert [lamp.on for lamp in lamps.lamps] == [False, True]
        await until(pilot, lambda: "✗ [b]wet" in app.shown(), "the mark")
        await pilot.press("down", "enter")
        assert [lamp.on for lamp in lamps.lamps] == [False, False]
        await pilot.press("k", "space")
        assert [lamp.on for lamp in lamps.lamps] == [True, False]
        await pilot.press("escape")
        assert not isinstance(app.screen, SwitchesScreen)


async def test_a_demo_that_has_ended_is_told() -> None:
    app = stage(Lamps(deaf=True))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("F")
        await until(pilot, lambda: "the light is off" in app.shown(), "the list")
        await pilot.press("space")
        await until(pilot, lambda: "the demo does not hear" in app.shown(), "why")


async def test_a_real_cluster_has_neither_the_key_nor_a_word_of_it() -> None:
    app = stage(None)
    async with app.run_test(size=(120, 60)) as pilot:
        await pilot.press("F")
        assert not isinstance(app.screen, SwitchesScreen)
        assert "app.switches" not in {b.binding.action for b in app.active_bindings.values()}
        assert not [text for _, text, _ in Commands(app.screen)._listed() if "fault on" in text]
        await pilot.press("question_mark")
        await until(pilot, lambda: "every key" in app.shown(), "the help")
        assert "bring a fault on" not in app.shown()
