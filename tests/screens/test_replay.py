"""A recording seen again: the same screens, its own keys, nothing to change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from textual.pilot import Pilot

from llamatop.app.actions import KEYS
from llamatop.app.replay import ReplayApp
from llamatop.app.screens.seek import meant, share
from llamatop.collect.source import Position
from llamatop.errors import NodeError
from llamatop.record.player import Player
from llamatop.record.writer import Recorder
from tests.screens import clusters
from tests.screens.stage import Stage, until
from tests.unit.record.conftest import faulty
from tests.unit.record.hour import MOMENTS, Hour

__all__ = ["faulty"]
FIRST = clusters.well(1).taken_at


@pytest.fixture(scope="module")
def minutes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three minutes of a healthy cluster."""
    path = tmp_path_factory.mktemp("recording") / "minutes.rec"
    recorder = Recorder(path)
    for tick in range(1, 182):
        recorder.take(clusters.well(tick))
    recorder.close()
    return path


# As the pane says while nothing came from a journal yet.
UNREAD = "reading…"


class Replay(ReplayApp):
    """The replay with its screen in reach; it stands still until it is told to move."""

    def __init__(self, path: Path, *, theme: str | None = None) -> None:
        self.player = Player(path)
        self.player.pause(True)
        super().__init__(self.player, theme=theme)

    shown = Stage.shown


async def drawn(pilot: Pilot[None], shown: Callable[[], str]) -> None:
    """Wait until the screen has been painted and the journal was asked for."""
    await until(pilot, lambda: shown().partition("\n")[0].strip() != "", "the first line")
    await until(pilot, lambda: UNREAD not in shown(), "the journal")


async def at(pilot: Pilot[None], moment: datetime) -> None:
    """Wait until that moment is shown, and said to be."""
    app = pilot.app
    assert isinstance(app, Replay)
    await until(pilot, lambda: app.snapshot.taken_at == moment, f"{moment}")
    await until(pilot, lambda: f"{moment:%H:%M:%S}" in app.shown().splitlines()[-2], "the line")


@pytest.mark.slow
@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
async def test_a_faulty_hour_replays_to_the_same_screens(
    faulty: tuple[Path, Hour], size: tuple[int, int]
) -> None:
    path, lived = faulty
    width, height = size
    live: dict[str, list[str]] = {}
    for name in MOMENTS:
        snapshot, past = lived.moments[name]
        stage = Stage(snapshot, read_only=True)
        stage.mode = "replay"
        stage.fake.history = past  # type: ignore[assignment]  # as it was at that moment
        stage.fake.entries = []
        stage.fake.journal_fault = NodeError("node1", "journals are not in a recording")
        # One line less: the one that says that it is a replay.
        async with stage.run_test(size=(width, height - 1)) as pilot:
            await drawn(pilot, stage.shown)
            live[name] = stage.shown().splitlines()
    app = Replay(path)
    async with app.run_test(size=size) as pilot:
        for name in (*MOMENTS, *reversed(MOMENTS)):
            moment = lived.moments[name][0].taken_at
            app.player.seek(moment)
            await at(pilot, moment)
            await drawn(pilot, app.shown)
            again = app.shown().splitlines()
            assert "replay" in again.pop(-2)
            assert again == live[name], name


async def test_keys_move_in_time(minutes: Path) -> None:
    app = Replay(minutes)
    async with app.run_test(size=(120, 30)) as pilot:
        for keys, seconds in (
            ("", 0),
            ("full_stop", 1),
            ("full_stop", 2),
            ("comma", 1),
            ("greater_than_sign", 61),
            ("less_than_sign", 1),
            ("5", 90),
            ("9", 162),
            ("0", 0),
        ):
            if keys:
                await pilot.press(keys)
            await at(pilot, FIRST + timedelta(seconds=seconds))
        assert "‖ replay" in app.shown()
        assert "read-only" not in app.shown()
        assert "replay" in app.shown().splitlines()[0]
        assert "0:00 of 3:00" in app.shown()
        await pilot.press("right_square_bracket", "right_square_bracket")
        await until(pilot, lambda: "×5" in app.shown(), "the speed")
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: "×2" in app.shown(), "the speed")
        await pilot.press("space")
        await until(pilot, lambda: "▶ replay" in app.shown(), "playing")
        await until(pilot, lambda: app.snapshot.taken_at > FIRST, "the next tick")


async def test_a_time_is_typed(minutes: Path) -> None:
    app = Replay(minutes)
    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        await at(pilot, FIRST)
        await pilot.press("T", *"+90s", "enter")
        await at(pilot, FIRST + timedelta(seconds=90))
        clock = f"{FIRST + timedelta(seconds=30):%H:%M:%S}"
        await pilot.press("T", *clock, "enter")
        await at(pilot, FIRST + timedelta(seconds=30))
        await pilot.press("T", *"end", "enter")
        await at(pilot, FIRST + timedelta(seconds=180))
        assert "the end" in app.shown()
        await pilot.press("T", *"noon", "enter")
        await until(pilot, lambda: "is no time" in app.shown(), "the complaint")
        await pilot.press("escape")
        await pilot.pause()
        assert "■ replay" in app.shown()


async def test_it_ends_with_a_word_and_plays_again(minutes: Path) -> None:
    app = Replay(minutes)
    async with app.run_test(size=(120, 30)) as pilot:
        app.player.seek(FIRST + timedelta(seconds=179.5))
        await at(pilot, FIRST + timedelta(seconds=179))
        await pilot.press("space")
        await until(pilot, lambda: "the end" in app.shown(), "the end")
        assert "■ replay" in app.shown()
        assert "node1/gpu0" in app.shown()
        await pilot.press("space")
        await until(pilot, lambda: app.snapshot.taken_at < FIRST + timedelta(seconds=60), "anew")
        await until(pilot, lambda: "▶ replay" in app.shown(), "the mark of playing")


async def test_a_recording_that_was_cut_off_says_so(minutes: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    recorder = Recorder(path)
    recorder.take(clusters.well(1))
    app = Replay(path)
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: "it was cut off here" in app.shown(), "the word")
    recorder.close()


async def test_nothing_can_be_changed_and_silence_is_no_fault(minutes: Path) -> None:
    app = Replay(minutes)
    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        await at(pilot, FIRST)
        await drawn(pilot, app.shown)
        before = app.shown()
        for key in KEYS:
            if key.changes and key.key != "space":
                for one in key.key.split(","):
                    await pilot.press(one)
        # What a key starts would come before what the next key shows.
        await pilot.press("full_stop")
        await at(pilot, FIRST + timedelta(seconds=1))
        await pilot.press("comma")
        await at(pilot, FIRST)
        assert app.shown() == before
        assert len(app.screen_stack) == 1
        await pilot.press("exclamation_mark")
        await until(pilot, lambda: "this is a recording" in app.shown(), "the word")


async def test_other_screens_say_it_too(minutes: Path) -> None:
    app = Replay(minutes)
    async with app.run_test(size=(120, 30)) as pilot:
        await at(pilot, FIRST)
        await pilot.press("enter")
        await until(pilot, lambda: "journals are not in a recording" in app.shown(), "the detail")
        assert "‖ replay" in app.shown()
        await pilot.press("full_stop")
        await at(pilot, FIRST + timedelta(seconds=1))
        await pilot.press("escape", "question_mark")
        await until(pilot, lambda: "a minute back" in app.shown(), "the keys")


def test_the_line_and_the_screen_around_it(
    snap_compare: Callable[..., bool], minutes: Path
) -> None:
    async def act(pilot: Pilot[None]) -> None:
        await pilot.press("5")
        await at(pilot, FIRST + timedelta(seconds=90))

    assert snap_compare(Replay(minutes), terminal_size=(120, 30), run_before=act)


def slots(app: Replay) -> str:
    totals = app.snapshot.totals
    assert totals.slots_total
    return f"{totals.slots_busy}/{totals.slots_total}"


@pytest.mark.parametrize("size", [(40, 15), (80, 24), (10, 3), (24, 8)])
async def test_small_terminals(minutes: Path, size: tuple[int, int]) -> None:
    app = Replay(minutes)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.snapshot.taken_at == FIRST, "the first tick")
        # The smallest have room for the cluster's health alone.
        await until(pilot, lambda: size[0] < 24 or "✓" in app.shown(), "the health")
        if size[0] >= 40:
            await until(pilot, lambda: slots(app) in app.shown(), "the slots")
        await until(pilot, lambda: "replay" in app.shown(), "the line")
        await pilot.press("full_stop")
        await until(pilot, lambda: app.snapshot.taken_at > FIRST, "the next tick")
        await until(pilot, lambda: size[0] < 24 or "✓" in app.shown(), "the health again")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("02:13:28", 0.999),
        ("02:14", 32.999),
        ("2026-11-21 02:14:00", 32.999),
        ("+5", 65),
        ("+1m", 120),
        ("-30s", 30),
        ("1h", None),
        ("25:00", None),
        ("", None),
    ],
)
def test_what_a_time_means(text: str, seconds: float | None) -> None:
    first = datetime.fromisoformat("2026-11-21T02:13:28+00:00")
    position = Position(
        at=first + timedelta(seconds=60),
        first=first,
        last=first + timedelta(seconds=180),
        paused=False,
        speed=1.0,
        ended=False,
        complete=True,
    )
    found = meant(text, position)
    assert (None if found is None else (found - first).total_seconds()) == seconds


@pytest.mark.parametrize(
    ("text", "part"),
    [("50%", 0.5), ("150 %", 1.0), ("end", 1.0), ("Begin", 0.0), ("50", None), ("+5m", None)],
)
def test_a_share_of_the_whole(text: str, part: float | None) -> None:
    assert share(text) == part


def test_a_time_of_day_before_the_beginning_is_the_next_day_s() -> None:
    first = datetime.fromisoformat("2026-11-21T23:50:00+00:00")
    position = Position(first, first, first + timedelta(hours=2), False, 1.0, False, True)
    found = meant("00:10:00", position)
    assert found == first + timedelta(minutes=20, seconds=0.999)
