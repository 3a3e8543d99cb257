"""A journal that floods: bounded, still while paused, searched, and at the newest again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from textual.pilot import Pilot

from llamatop.app.screens.logs import LogScreen
from llamatop.app.widgets.journal import KEPT_LINES, JournalView
from tests.screens.stage import Stage, until

pytestmark = pytest.mark.slow


def flood(first: int, number: int) -> list[str]:
    return [f"line {place:06} of the flood" for place in range(first, first + number)]


async def opened(app: Stage, pilot: Pilot[None]) -> JournalView:
    await pilot.press("l")
    await until(pilot, lambda: isinstance(app.screen, LogScreen), "the log")
    journal = app.screen.query_one(JournalView)
    await until(pilot, lambda: journal.entry_count() > 0, "its lines")
    return journal


def batches(first: int, number: int, size: int) -> Iterator[list[str]]:
    for place in range(first, first + number, size):
        yield flood(place, size)


@pytest.mark.parametrize("read_only", [True, False])
def test_every_log_has_the_same_keys_of_its_own(read_only: bool) -> None:
    for _ in range(3):
        bound = LogScreen("node1/gpu0", read_only)._bindings.key_to_bindings
        for key, action in (("l", "back"), ("f", "pause"), ("space", "pause")):
            assert [one.action for one in bound[key]] == [f"screen.{action}"]


@pytest.mark.parametrize("size", [300, 20_000])
async def test_what_is_kept_is_bounded_and_the_newest_is_shown(size: int) -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        journal = await opened(app, pilot)
        for batch in batches(0, 24_000 // size * size, size):
            journal.add(batch)
        last = 24_000 // size * size - 1
        assert KEPT_LINES <= journal.entry_count() < KEPT_LINES + 2000
        kept = range(journal._first, journal._first + len(journal._entries))
        assert {entry for entry, _ in journal._lines} == set(kept)
        await until(pilot, lambda: f"line {last:06}" in app.shown(), "the newest line")


async def test_a_paused_journal_stands_still_and_goes_on_at_the_newest() -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        journal = await opened(app, pilot)
        journal.add(flood(0, 8000))
        await until(pilot, lambda: "line 007999" in app.shown(), "the newest line")
        await pilot.press("space")
        await until(pilot, lambda: "paused" in app.shown(), "the pause")
        before = [line for line in app.shown().splitlines() if "of the flood" in line]
        for batch in batches(8000, 30_000, 500):
            journal.add(batch)
        await until(pilot, lambda: "30.0k more came" in app.shown(), "how many came")
        assert [line for line in app.shown().splitlines() if "of the flood" in line] == before
        assert journal.entry_count() < 3 * KEPT_LINES
        await pilot.press("space")
        await until(pilot, lambda: "line 037999" in app.shown(), "the newest line")
        assert "more came" not in app.shown()


async def test_hits_are_found_again_after_the_oldest_lines_went() -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        journal = await opened(app, pilot)
        journal.add(flood(0, 9000))
        await pilot.press("slash", *"8123 of", "enter")
        await until(pilot, lambda: "▸line 008123" in app.shown(), "the hit")
        journal.add(flood(9000, 2000))
        assert "▸line 008123" in app.shown()
        await pilot.press("n")
        assert "▸line 008123" in app.shown()
        assert journal.search("line 0") > 1
        await pilot.press("N")
        await until(pilot, lambda: "▸line 008998" in app.shown(), "the one before the newest")


async def test_reaching_the_end_goes_on() -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        journal = await opened(app, pilot)
        journal.add(flood(0, 500))
        await pilot.press("k")
        assert not journal.follow
        journal.add(flood(500, 500))
        assert "line 000999" not in app.shown()
        await pilot.press("G")
        await until(pilot, lambda: "line 000999" in app.shown(), "the newest line")
        assert journal.follow
