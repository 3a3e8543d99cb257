"""Looks between ticks: at fast workers alone, never at the cost of the probe's share of a core."""

from __future__ import annotations

import json
import time

import pytest

from llamatop.collect.decode import Decoder
from llamatop.probe import glances
from llamatop.probe.conversation import Talk

from .node import FakeNode
from .server import Worker, kept

pytestmark = pytest.mark.slow

A = "llama-server-gpu0.service"


class Busy(dict[str, bytes]):
    """Answers of a worker: slots 1 to 3 begin another task every 0.1 s, at 500 tokens a second."""

    def get(self, path: str, default: bytes = b"") -> bytes:  # type: ignore[override]
        answer = super().get(path, default)
        if path != "/slots":
            return answer
        turn, passed = divmod(time.monotonic(), 0.1)
        head, _, body = answer.partition(b"\r\n\r\n")
        slots = json.loads(body)
        for slot in slots[1:]:
            slot["id_task"] = 53 * int(turn) % 10**9
            slot["next_token"][0]["n_decoded"] = int(500 * passed)
        body = json.dumps(slots).encode()
        lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body)]
        assert head
        return b"\r\n".join(lines) + b"\r\n\r\n" + body


def test_a_worker_of_short_requests_is_looked_at_between_ticks(
    node: FakeNode, worker: Worker
) -> None:
    worker.answers = Busy(worker.answers)
    node.worker(A, worker.port, 101)
    running = node.start(interval=1.0)
    document = running.until(lambda d: d["workers"].get(A, {}).get("glances"))
    running.close()
    decoder = Decoder("node1")
    snapshot = decoder.snapshot(document, 1.0)
    sample = snapshot.workers[A]
    assert snapshot.faults == {}
    moments = [glance.at_seconds for glance in sample.glances]
    assert moments == sorted(moments)
    assert sample.read_at_seconds is not None
    assert 0 < sample.read_at_seconds - moments[-1] < sample.read_at_seconds - moments[0] < 30
    assert all(len(glance.slots) == 4 for glance in sample.glances)
    assert worker.asked.count("/slots") > worker.asked.count("/metrics")


def test_a_worker_whose_tasks_stay_is_read_once_a_tick(node: FakeNode, worker: Worker) -> None:
    worker.answers = {path: kept(answer) for path, answer in worker.answers.items()}
    node.worker(A, worker.port, 101)
    running = node.start()
    running.until(lambda d: d["tick"] >= 4)
    worker.asked.clear()
    running.until(lambda d: d["tick"] >= 12)
    running.close()
    assert "glances" not in running.document["workers"][A]
    assert worker.asked.count("/slots") > 5
    assert abs(worker.asked.count("/slots") - worker.asked.count("/metrics")) <= 1


class Wanting(Talk):
    """A talk that wants so many glances and notes when it gets them."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.given: list[float] = []

    def wanted(self, interval: float) -> int:
        return self.count

    def glance_at(self, moment: float) -> None:
        self.given.append(moment)


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the process is said to have spent, in seconds."""
    told = [5.0]
    monkeypatch.setattr("llamatop.probe.glances.time.process_time", lambda: told[0])
    return told


def test_glances_lie_evenly_between_the_ticks(spent: list[float]) -> None:
    plan, talk = glances.Glances(), Wanting(3)
    for tick in range(3):
        plan.plan([talk, Wanting(0)], 10.0 + tick, 1.0)
    assert talk.given[-3:] == [12.25, 12.5, 12.75]


def test_a_probe_at_its_share_of_a_core_looks_no_more(spent: list[float]) -> None:
    plan, talk = glances.Glances(), Wanting(3)
    for tick in range(40):
        if tick == 20:
            talk.given.clear()
        plan.plan([talk], 10.0 + tick, 1.0)
        spent[0] += 0.0105
    assert talk.given == []


def test_what_is_left_of_the_share_goes_round(spent: list[float]) -> None:
    plan, talks = glances.Glances(), [Wanting(3) for _ in range(8)]
    for tick in range(40):
        before = sum(len(talk.given) for talk in talks)
        plan.plan(talks, 10.0 + tick, 1.0)
        given = sum(len(talk.given) for talk in talks) - before
        assert given <= 6
        spent[0] += 0.0085 + given * 0.0004
    counts = [len(talk.given) for talk in talks]
    assert min(counts) > 0
    assert spent[0] - 5.0 <= 0.01 * 40 + 0.01
