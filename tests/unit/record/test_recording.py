"""A recording holds what was seen, all of it that is shown, and stands what happens to files."""

from __future__ import annotations

import asyncio
import bz2
import errno
import json
import os
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llamatop.cli.render_json import to_object
from llamatop.errors import NodeError, UsageError
from llamatop.model.cluster import ClusterSnapshot
from llamatop.record.lines import RecordingError, difference, patched
from llamatop.record.player import Player
from llamatop.record.reader import Recording
from llamatop.record.restore import Decoder
from llamatop.record.writer import FLUSH_SECONDS, Recorder
from tests.screens import clusters
from tests.screens.test_inference import EMBEDDER, LARGE, VLLM, hinted, ollama, told
from tests.unit.collect import virtual
from tests.unit.record.hour import MOMENTS, Hour, frozen


def played(path: Path) -> list[ClusterSnapshot]:
    recording = Recording(path)
    decoder = Decoder()
    found = []
    for place, frame in enumerate(recording.frames):
        document, events = recording.state(place)
        found.append(decoder.snapshot(document, frame.at, frame.tick, events))
    recording.close()
    return found


class Taking:
    """A recorder whose clock a test moves."""

    def __init__(self, path: Path, **more: Any) -> None:
        self.now = 0.0
        self.recorder = Recorder(path, clock=lambda: self.now, **more)

    def take(self, ticks: range, seconds: float = 1.0) -> None:
        for tick in ticks:
            self.recorder.take(clusters.well(tick))
            self.now += seconds


def text(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in bz2.decompress(path.read_bytes()).splitlines()]


@pytest.mark.slow
def test_each_moment_of_a_faulty_hour_is_the_same_object(faulty: tuple[Path, Hour]) -> None:
    path, lived = faulty
    found = played(path)
    assert len(found) == len(lived.seen) > 1200
    for live, again in zip(lived.seen, found, strict=True):
        assert to_object(again) == to_object(live)
        assert again.tick == live.tick


@pytest.mark.slow
def test_the_hour_had_its_faults(faulty: tuple[Path, Hour]) -> None:
    _, lived = faulty
    ill = {name for name, (snapshot, _) in lived.moments.items() if not snapshot.healthy}
    assert ill == {
        "a worker that loads",
        "a crash loop",
        "a node cut off",
        "a lost card",
        "a file that does not parse",
    }
    hot, _ = lived.moments["a hot card"]
    assert hot.gpus[0].sample.throttle == ("hardware_thermal_slowdown",)
    down, _ = lived.moments["a member down"]
    assert {member.state for member in down.members} == {"in", "draining"}


@pytest.mark.slow
def test_an_hour_is_small_and_may_be_read_by_its_owner_alone(faulty: tuple[Path, Hour]) -> None:
    path, _ = faulty
    assert path.stat().st_size < 200_000
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.slow
@pytest.mark.parametrize("name", MOMENTS)
def test_history_is_there_after_a_jump(faulty: tuple[Path, Hour], name: str) -> None:
    path, lived = faulty
    live, past = lived.moments[name]

    async def jump() -> None:
        async with Player(path) as player:
            snapshots = player.snapshots()
            await anext(snapshots)
            player.pause(True)
            player.seek(live.taken_at)
            async for snapshot in snapshots:
                if snapshot.taken_at == live.taken_at:
                    break
            assert to_object(player.latest) == to_object(live)
            # Rates are kept to the hundredth, as `status --json` prints them.
            again = frozen(player.history, player.latest).series
            assert again.keys() == past.series.keys()
            for key, values in past.series.items():
                shown = [value if value is None else round(value, 2) for value in values]
                assert list(again[key]) == shown, key
            await snapshots.aclose()

    virtual.run(jump())


@pytest.mark.slow
async def test_a_recording_has_no_journals_and_no_shells(faulty: tuple[Path, Hour]) -> None:
    async with Player(faulty[0]) as player:
        with pytest.raises(NodeError, match="not in a recording"):
            await anext(player.journal("node1/gpu0"))
        with pytest.raises(NodeError, match="no machine"):
            player.shell_argv("node1")


def test_the_first_frame_is_there_before_the_others_are_known(tmp_path: Path) -> None:
    taking = Taking(tmp_path / "a")
    taking.take(range(1, 62))
    taking.recorder.close()

    async def play() -> None:
        async with Player(tmp_path / "a") as player:
            first = player.latest
            assert first.tick == 1
            position = player.position
            assert position.seeking
            assert not position.ended
            assert position.last == position.first == first.taken_at
            # What is asked for meanwhile is done then.
            player.part(0.5)
            player.step(1)
            snapshots = player.snapshots()
            again = await anext(snapshots)
            assert (again.taken_at - first.taken_at).total_seconds() == 31
            assert not player.position.seeking
            assert (player.position.last - first.taken_at).total_seconds() == 60
            await snapshots.aclose()

    virtual.run(play())


def test_playing_takes_the_time_it_took_and_the_speed_divides_it(tmp_path: Path) -> None:
    taking = Taking(tmp_path / "a")
    taking.take(range(1, 62))
    taking.recorder.close()

    async def play() -> None:
        async with Player(tmp_path / "a") as player:
            snapshots = player.snapshots()
            first = await anext(snapshots)
            begin = virtual.clock()
            async for snapshot in snapshots:
                if (snapshot.taken_at - first.taken_at).total_seconds() >= 10:
                    break
            assert virtual.clock() - begin == pytest.approx(10.0, abs=0.2)
            player.faster(2)
            begin, at = virtual.clock(), player.position.at
            assert player.position.speed == 5.0
            async for _ in snapshots:
                if player.position.ended:
                    break
            passed = (player.position.at - at).total_seconds()
            assert virtual.clock() - begin == pytest.approx(passed / 5, abs=0.3)
            assert player.position.paused
            assert player.position.complete
            player.pause()
            again = await anext(snapshots)
            assert again.taken_at == first.taken_at
            await snapshots.aclose()

    virtual.run(play())


def test_steps_and_skips_stay_within_the_recording(tmp_path: Path) -> None:
    taking = Taking(tmp_path / "a")
    taking.take(range(1, 130))
    taking.recorder.close()

    async def move() -> None:
        async with Player(tmp_path / "a") as player:
            snapshots = player.snapshots()
            await anext(snapshots)
            player.pause(True)
            await anext(snapshots)
            first, last = player.position.first, player.position.last

            async def after(moved: None) -> float:
                await anext(snapshots)
                return (player.position.at - first).total_seconds()

            whole = (last - first).total_seconds()
            assert await after(player.step(3)) == 3
            assert await after(player.step(-1)) == 2
            assert await after(player.step(-9)) == 0
            assert await after(player.skip(60)) == 60
            assert await after(player.skip(-60)) == 0
            assert await after(player.skip(0.2)) == 1
            assert await after(player.skip(9999)) == whole
            assert player.position.ended
            assert await after(player.seek(first - timedelta(days=1))) == 0
            assert await after(player.seek(first + timedelta(seconds=7.9))) == 7
            await snapshots.aclose()

    virtual.run(move())


def test_what_was_written_seconds_ago_outlives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "a"
    taking = Taking(path)
    taking.take(range(1, 62))
    # Nothing is closed: this is what a killed llamatop leaves.
    recording = Recording(path)
    assert not recording.complete
    lost = clusters.well(61).taken_at - recording.frames[-1].at
    assert lost.total_seconds() <= FLUSH_SECONDS
    assert played(path)[-1].workers
    taking.recorder.close()
    assert Recording(path).complete
    assert len(Recording(path).frames) == 61


@pytest.mark.slow
@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
def test_a_cut_file_is_read_as_far_as_it_goes(
    tmp_path: Path, faulty: tuple[Path, Hour], keep: float
) -> None:
    data = faulty[0].read_bytes()
    cut = tmp_path / "cut"
    cut.write_bytes(data[: int(len(data) * keep)])
    found = played(cut)
    assert 50 < len(found) < len(faulty[1].seen)
    assert not Recording(cut).complete
    for live, again in zip(faulty[1].seen, found, strict=False):
        assert to_object(again) == to_object(live)


@pytest.mark.slow
def test_damage_costs_what_is_damaged_alone(tmp_path: Path, faulty: tuple[Path, Hour]) -> None:
    data = bytearray(faulty[0].read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    path = tmp_path / "damaged"
    path.write_bytes(data)
    found = played(path)
    live = {snapshot.taken_at: snapshot for snapshot in faulty[1].seen}
    assert len(live) * 0.7 < len(found) < len(live)
    assert found[-1].taken_at == max(live).replace(microsecond=found[-1].taken_at.microsecond)
    assert to_object(found[-1]) == to_object(faulty[1].seen[-1])


def test_rubbish_behind_the_last_stream_is_ignored(tmp_path: Path) -> None:
    taking = Taking(tmp_path / "a")
    taking.take(range(1, 20))
    taking.recorder.close()
    with (tmp_path / "a").open("ab") as file:
        file.write(b"BZh91AY&SY" + bytes(range(256)) * 8)
    assert len(played(tmp_path / "a")) == 19


@pytest.mark.slow
def test_plain_lines_are_read_as_well(tmp_path: Path, faulty: tuple[Path, Hour]) -> None:
    plain = tmp_path / "plain"
    lines = bz2.decompress(faulty[0].read_bytes())
    # As jq writes them: other spaces, other order of keys.
    objects = [json.loads(line) for line in lines.splitlines()[:300]]
    plain.write_text("".join(json.dumps(one, sort_keys=True) + "\n" for one in objects))
    found = played(plain)
    assert len(found) == 299
    assert to_object(found[-1])["totals"] == to_object(faulty[1].seen[298])["totals"]


@pytest.mark.slow
def test_each_line_is_an_object_with_a_header_first(faulty: tuple[Path, Hour]) -> None:
    lines = text(faulty[0])
    assert lines[0]["recording"]["format"] == "1.0"
    assert lines[0]["recording"]["cluster"] == "faulty-hour"
    assert lines[-1] == {"ended": True}
    assert all("at" in line and ("whole" in line) != ("patch" in line) for line in lines[1:-1])
    assert 12 <= sum("whole" in line for line in lines) < 40


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no recording"),
        (b"hello\n", "is no recording"),
        (b"\x00" * 100, "is no recording"),
        (b"BZh9", "is no recording"),
        (b'{"recording":{"format":"1.0"}}\n', "nothing was recorded in it"),
        (b'{"recording":{}}\n', "its header names no format"),
        (
            b'{"recording":{"format":"2.3","llamatop":"9.1"}}\n',
            "was recorded by llamatop 9.1 in format 2.3; this llamatop reads format 1 and needs",
        ),
    ],
)
def test_what_is_no_recording_is_said_with_its_name(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "some.file"
    path.write_bytes(content)
    with pytest.raises(RecordingError) as caught:
        Recording(path)
    assert said in str(caught.value)
    assert "some.file" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_file_that_is_not_there_or_a_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="No such file"):
        Recording(tmp_path / "none")
    with pytest.raises(RecordingError, match="directory"):
        Recording(tmp_path)


def test_what_a_later_version_adds_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "a"
    taking = Taking(path)
    taking.take(range(1, 10))
    taking.recorder.close()
    lines = text(path)
    lines[0]["recording"] |= {"format": "1.7", "mood": "good"}
    lines.insert(2, {"comment": "a kind of line that is not known yet"})
    for line in lines[1:]:
        whole = line.get("whole")
        if whole:
            whole["weather"] = {"sunny": True}
            whole["nodes"]["node1"]["humidity_percent"] = 40
            name = next(iter(whole["workers"]))
            whole["workers"][name] |= {"topology": "moebius", "colour": ["a"]}
            whole["workers"][name]["sample"]["health"] = "radiant"
    later = tmp_path / "later"
    later.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    found = played(later)
    assert len(found) == 9
    assert found[-1].workers[0].topology is None
    assert found[-1].workers[0].sample.health is None
    assert found[-1].workers[1] == played(path)[-1].workers[1]


@pytest.mark.parametrize("part", ["nodes", "workers", "gpus", "members", "totals", "cluster"])
@pytest.mark.parametrize("value", [None, 3, "x", [1], {"a": 1}, {"a": {"b": []}}])
def test_a_part_that_is_anything_else_is_unknown(part: str, value: object) -> None:
    taken: list[Any] = []
    snapshot = Decoder().snapshot({part: value}, clusters.well().taken_at, 1, taken)
    to_object(snapshot)
    assert snapshot.workers == ()


def test_a_file_that_exists_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("precious")
    with pytest.raises(UsageError, match="exists"):
        Recorder(path)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError):
        Recorder(link)
    with pytest.raises(UsageError, match="cannot be written"):
        Recorder(tmp_path / "no" / "such" / "directory")
    assert path.read_text() == "precious"
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_vanishes_ends_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "a"
    taking = Taking(path)
    taking.take(range(1, 3))
    path.unlink()
    with pytest.raises(OSError, match="was removed"):
        taking.take(range(3, 30))
    assert taking.recorder.fault is not None
    taking.take(range(30, 40))
    taking.recorder.close()
    assert not path.exists()


def test_a_full_disk_ends_the_recording_and_leaves_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    taking = Taking(path)
    taking.take(range(1, 30))

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        taking.take(range(30, 60))
    monkeypatch.undo()
    assert len(played(path)) >= 25


def test_a_snapshot_is_taken_once(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a")
    snapshot = clusters.well()
    recorder.take(snapshot)
    recorder.take(snapshot)
    recorder.take(replace(snapshot, tick=snapshot.tick + 1))
    recorder.close()
    assert len(Recording(tmp_path / "a").frames) == 2


def test_what_an_ollama_and_a_vllm_tell_is_kept(tmp_path: Path) -> None:
    snapshot = clusters.well()
    view = snapshot.nodes[0]
    instances = tuple(
        replace(worker, name=f"{view.name}/{place}", node=view.name, age_seconds=0.625)
        for place, worker in enumerate(
            (ollama(LARGE, EMBEDDER), ollama(LARGE, read_at_seconds=None), ollama(), hinted(VLLM))
        )
    )
    recorder = Recorder(tmp_path / "a")
    recorder.take(replace(snapshot, workers=(*snapshot.workers, *instances)))
    later = replace(instances[0].sample, read_at_seconds=1003.5)
    instances = (replace(instances[0], sample=later), *instances[1:])
    live = replace(snapshot, workers=(*snapshot.workers, *instances), tick=snapshot.tick + 1)
    recorder.take(live)
    recorder.close()
    again = played(tmp_path / "a")[-1]
    assert to_object(again) == to_object(live)
    assert again.workers[-4].hints
    assert again.workers[-4].expires_in_seconds(LARGE) == live.workers[-4].expires_in_seconds(LARGE)
    # The other workers' contexts are made up, and are not what their slots say.
    assert [told(one) for one in again.workers[-4:]] == [told(one) for one in live.workers[-4:]]


def test_a_difference_makes_the_one_of_the_other() -> None:
    before = {"a": 1, "generated_tokens": 5, "b": {"c": [1], "d": 2}, "gone": {"x": 1}, "t": True}
    after = {"a": 1, "generated_tokens": 9, "b": {"c": [2], "d": 2, "e": {}}, "t": 1}
    patch = difference(after, before)
    assert patch == {
        "+generated_tokens": 4,
        "b": {"c": [2], "e": {}},
        "gone": None,
        "t": 1,
    }
    assert patched(before, patch) == after
    assert difference(after, after) == {}


@pytest.mark.slow
def test_the_hour_is_not_read_while_the_loop_waits(faulty: tuple[Path, Hour]) -> None:
    """A jump reads in a thread: the loop goes on meanwhile."""

    async def jump() -> int:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with Player(faulty[0]) as player:
            snapshots = player.snapshots()
            await anext(snapshots)
            task = asyncio.create_task(turn())
            player.seek(player.position.last)
            await anext(snapshots)
            task.cancel()
            await snapshots.aclose()
        return turns

    assert asyncio.run(jump()) > 3
