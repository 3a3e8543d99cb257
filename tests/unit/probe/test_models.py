"""The headers of models on a node: read once, again when changed, and never in a line's way."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamatop.probe import models
from tests.unit.engines.test_gguf import STRING, File, model

from .node import FakeNode

WAIT = 30.0


class Watched(models.Models):
    """Tells when a round over all files has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.looked: list[str] = []
        self.round = threading.Semaphore(0)

    def _look(self, path: str, place: str) -> None:
        self.looked.append(path)
        super()._look(path, place)
        self.round.release()

    def again(self) -> dict[str, Any]:
        """What is known after one more round, however much of it is under way."""
        while self.round.acquire(blocking=False):
            pass
        self._asked.set()
        assert self.round.acquire(timeout=WAIT)
        return self.sample()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "a.gguf"
    path.write_bytes(model().bytes())
    return path


def test_a_header_is_read_once_and_again_when_the_file_changes(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    real = models.Models._header

    def counted(self: models.Models, path: str, size: int) -> Any:
        opened.append(size)
        return real(self, path, size)

    monkeypatch.setattr(models.Models, "_header", counted)
    found = Watched()
    found.want({str(place): None})
    assert found.round.acquire(timeout=WAIT)
    known = found.sample()[str(place)]
    assert (known["architecture"], known["files"]) == ("qwen2", 1)
    assert known["size_bytes"] == place.stat().st_size
    found.again()
    assert len(opened) == 1
    larger = model()
    larger.tensor("blk.2.attn_q.weight", 4096)
    place.write_bytes(larger.bytes())
    assert len(found.again()[str(place)]["layer_bytes"]) == 3
    assert len(opened) == 2


def test_all_parts_of_a_split_model_are_read(tmp_path: Path) -> None:
    first, second = (tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2))
    first.write_bytes(model().bytes())
    more = File()
    more.tensor("blk.2.attn_q.weight", 512)
    second.write_bytes(more.bytes())
    found = Watched()
    found.want({str(first): None})
    assert found.round.acquire(timeout=WAIT)
    known = found.sample()[str(first)]
    assert (known["files"], known["layer_bytes"]) == (2, [160, 160, 512])
    assert known["size_bytes"] == first.stat().st_size + second.stat().st_size
    second.unlink()
    assert "No such file" in found.again()[str(first)]["fault"]


def test_what_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.gguf").write_text("no model")
    os.mkfifo(tmp_path / "pipe.gguf")
    nameless = File()
    nameless.key("general.name", STRING, nameless.text("x"))
    (tmp_path / "nameless.gguf").write_bytes(nameless.bytes())
    closed = tmp_path / "closed.gguf"
    real = os.stat

    def stat(path: Any, **more: Any) -> os.stat_result:
        if path == str(closed):
            raise PermissionError(13, "Permission denied")
        return real(path, **more)

    monkeypatch.setattr(os, "stat", stat)
    said = {
        "text.gguf": "no GGUF file",
        "pipe.gguf": "no ordinary file",
        "nameless.gguf": "names no architecture",
        "closed.gguf": "this user may not read it",
        "gone.gguf": "No such file",
    }
    found = Watched()
    found.want({str(tmp_path / name): None for name in said} | {"relative.gguf": None})
    for _ in range(len(said) + 1):
        assert found.round.acquire(timeout=WAIT)
    known = found.sample()
    for name, text in said.items():
        assert text in known[str(tmp_path / name)]["fault"]
    assert "relative" in known["relative.gguf"]["fault"]


def test_whatever_goes_wrong_with_one_file_the_next_is_read(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "b.gguf"
    other.write_bytes(model().bytes())
    real = models.Models._header

    def header(self: models.Models, path: str, size: int) -> Any:
        if path == str(place):
            raise OverflowError("cannot convert float infinity to integer")
        return real(self, path, size)

    monkeypatch.setattr(models.Models, "_header", header)
    found = Watched()
    found.want({str(place): None, str(other): None})
    for _ in range(2):
        assert found.round.acquire(timeout=WAIT)
    known = found.sample()
    assert "infinity" in known[str(place)]["fault"]
    assert known[str(other)]["architecture"] == "qwen2"


@pytest.fixture
def held() -> Iterator[threading.Event]:
    let_go = threading.Event()
    yield let_go
    let_go.set()


def test_a_disk_that_hangs_delays_nobody_and_is_told(
    place: Path, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = threading.Event()
    real = models._mark

    def mark(path: str) -> tuple[int, float]:
        stuck.set()
        held.wait(60)
        return real(path)

    monkeypatch.setattr(models, "_mark", mark)
    found = Watched()
    found.want({str(place): None})
    assert stuck.wait(WAIT)
    assert found.sample() == {}
    monkeypatch.setattr(models, "_SLOW_SECONDS", 0.0)
    assert "has not answered" in found.sample()[str(place)]["fault"]
    held.set()
    assert found.round.acquire(timeout=WAIT)
    assert found.sample()[str(place)]["architecture"] == "qwen2"


def test_models_of_workers_that_are_gone_are_forgotten(place: Path) -> None:
    found = Watched()
    found.want({str(place): None})
    assert found.round.acquire(timeout=WAIT)
    found.want({})
    assert found.sample() == {}


@pytest.mark.slow
def test_a_line_carries_the_model_once_and_by_the_path_it_was_started_with(
    node: FakeNode, tmp_path: Path
) -> None:
    (tmp_path / "root/srv").mkdir(parents=True)
    (tmp_path / "root/srv/m.gguf").write_bytes(model().bytes())
    for number in (0, 1):
        words = ["/opt/llama-server", "-m", "/srv/m.gguf", "--port", str(1 + number)]
        node.process(100 + number, words, unit=f"llama-gpu{number}.service")
        node.unit(f"llama-gpu{number}.service", " ".join(words), 100 + number)
    running = node.start(environment={"HOST_ROOT": str(tmp_path / "root")})
    try:
        document = running.until(lambda found: found.get("models"))
        assert list(document["models"]) == ["/srv/m.gguf"]
        assert document["models"]["/srv/m.gguf"]["layer_bytes"] == [160, 160]
        for number in range(3):
            running.send(b'{"beat":%d}\n' % number)
            patch = running.line()
            assert patch is not None
            assert "models" not in patch
    finally:
        running.close()
