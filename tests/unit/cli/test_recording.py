"""`--record FILE` and `replay FILE` on the command line."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import pytest

from llamatop.cli.main import main
from llamatop.cli.recording import kept, recorder
from llamatop.cli.render_json import to_object
from llamatop.collect.collector import Collector
from llamatop.errors import NodeError
from llamatop.model.cluster import ClusterSnapshot, Event
from llamatop.record.document import Encoder
from llamatop.record.reader import Recording
from llamatop.record.writer import Recorder
from tests.screens import clusters


class Ticking:
    """What `kept` asks of a collector; a snapshot whenever the test says so."""

    def __init__(self) -> None:
        self.latest = clusters.well(0)
        self.told: list[Event] = []
        self._news: asyncio.Queue[ClusterSnapshot] = asyncio.Queue()

    def tick(self) -> None:
        self.latest = clusters.well(self.latest.tick + 1)
        self._news.put_nowait(self.latest)

    async def snapshots(self) -> AsyncGenerator[ClusterSnapshot, None]:
        while True:
            yield await self._news.get()

    def announce(self, event: Event) -> None:
        self.told.append(event)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A recording of ten ticks."""
    path = tmp_path / "ten.rec"
    record = Recorder(path)
    for tick in range(1, 11):
        record.take(clusters.well(tick))
    record.close()
    return path


def test_replay_prints_the_object_of_status_for_each_tick(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(path), "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [
        to_object(clusters.well(tick)) for tick in range(1, 11)
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["replay", "{path}"], "needs a terminal; `llamatop replay FILE --json` needs none"),
        (["replay", "{path}", "-c", "x.toml"], "brings its own cluster"),
        (["replay", "/nonexistent/file", "--json"], "/nonexistent/file: cannot be read"),
        (["replay", "/etc/passwd", "--json"], "/etc/passwd: is no recording"),
        (["status", "-c", "{cluster}", "--record", "{path}"], "exists; name another file"),
        (["watch", "-c", "{cluster}", "--record", "/nonexistent/file"], "cannot be written"),
        (["logs", "a/x", "-c", "{cluster}", "--record", "{path}"], "exists; name another file"),
        (["discover", "-c", "{cluster}", "--record", "{path}"], "exists; name another file"),
        (["demo", "--write", "x", "--record", "y"], "leave --record out"),
        (["drain", "node1/gpu0", "--record", "y"], "--record"),
    ],
)
def test_wrong_usage_is_2_and_says_what_is_wrong(
    words: list[str], said: str, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = tmp_path / "cluster.toml"
    cluster.write_text('[[node]]\nname = "a"\nurl = "http://127.0.0.1:1"\n')
    before = path.read_bytes()
    assert main([word.format(path=path, cluster=cluster) for word in words]) == 2
    assert said in capsys.readouterr().err
    assert path.read_bytes() == before


async def run(ticking: Ticking, record: Recorder, ticks: int) -> None:
    async with kept(cast("Collector", ticking), record):
        for _ in range(ticks):
            taken = ticking.latest
            ticking.tick()
            for _ in range(3000):
                await asyncio.sleep(0.01)
                if ticking.latest is not taken and record.last is ticking.latest:
                    break
                if record.fault is not None:
                    break


async def test_every_tick_is_kept_to_the_last(tmp_path: Path) -> None:
    ticking = Ticking()
    with recorder(tmp_path / "a") as record:
        assert record is not None
        await run(ticking, record, 5)
        ticking.tick()
    recording = Recording(tmp_path / "a")
    assert recording.complete
    assert [frame.tick for frame in recording.frames] == [1, 2, 3, 4, 5]


async def test_a_file_that_vanishes_is_an_event_and_a_word_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ticking = Ticking()
    now = iter(range(0, 10_000, 10))
    record = Recorder(tmp_path / "a", clock=lambda: float(next(now)))
    (tmp_path / "a").unlink()
    await run(ticking, record, 3)
    assert [(event.severity, event.text) for event in ticking.told] == [
        ("warning", f"the recording ended: {tmp_path / 'a'} was removed")
    ]
    assert record.fault is not None


async def test_a_fault_of_our_own_is_an_event_and_a_word_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("hunter2")

    ticking = Ticking()
    with recorder(tmp_path / "a") as record:
        assert record is not None
        monkeypatch.setattr(Encoder, "document", broken)
        await run(ticking, record, 2)
    said = "the recording ended: a fault of llamatop (ValueError)"
    assert [(event.severity, event.text) for event in ticking.told] == [("warning", said)]
    assert capsys.readouterr().err == f"llamatop: {said}\n"
    assert not (tmp_path / "a").exists(), "nothing is in it"


def test_no_file_is_left_where_nothing_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for _ in range(2):
        with pytest.raises(NodeError), recorder(path):
            raise NodeError("node1", "cannot be opened")
        assert not path.exists()
    with contextlib.suppress(NodeError), recorder(path) as record:
        assert record is not None
        record.take(clusters.well(1))
        raise NodeError("node1", "was cut off")
    assert len(Recording(path).frames) == 1


def test_another_s_file_in_its_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with recorder(path):
        path.unlink()
        path.write_text("precious")
    assert path.read_text() == "precious"


def test_why_it_ended_is_said_after_the_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with recorder(tmp_path / "a") as record:
        assert record is not None
        record.fault = OSError(28, "No space left on device")
    assert capsys.readouterr().err == ("llamatop: the recording ended: No space left on device\n")


def test_without_a_path_nothing_is_kept() -> None:
    with recorder(None) as record:
        assert record is None


def test_record_goes_before_the_command_too(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = tmp_path / "cluster.toml"
    cluster.write_text('[[node]]\nname = "a"\nurl = "http://127.0.0.1:1"\n')
    words: list[Any] = ["--record", path, "-c", cluster, "status"]
    assert main([str(word) for word in words]) == 2
    assert "exists" in capsys.readouterr().err
