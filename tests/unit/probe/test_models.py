"""The headers of models on a node: read once, again when changed, and never in a line's way."""

from __future__ import annotations

import json
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamatop.probe import models, procfs
from tests.unit.engines.test_gguf import STRING, U32, File, model

from .node import FakeNode
from .server import Worker

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
    found.want({str(place): (str(place), None)})
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
    found.want({str(first): (str(first), None)})
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
    places = [*(str(tmp_path / name) for name in said), "relative.gguf"]
    found.want({name: (name, None) for name in places})
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
    found.want({str(one): (str(one), None) for one in (place, other)})
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
    found.want({str(place): (str(place), None)})
    assert stuck.wait(WAIT)
    assert found.sample()[str(place)] == {"path": str(place), "reading": True}
    monkeypatch.setattr(models, "_SLOW_SECONDS", 0.0)
    assert "has not answered" in found.sample()[str(place)]["fault"]
    held.set()
    assert found.round.acquire(timeout=WAIT)
    assert found.sample()[str(place)]["architecture"] == "qwen2"


def test_models_of_workers_that_are_gone_are_forgotten(place: Path) -> None:
    found = Watched()
    found.want({str(place): (str(place), None)})
    assert found.round.acquire(timeout=WAIT)
    found.want({})
    assert found.sample() == {}


def test_one_file_of_several_is_no_model(tmp_path: Path) -> None:
    alone = model()
    alone.key("split.count", U32, struct.pack("<I", 3))
    path = tmp_path / "sha256-1"
    path.write_bytes(alone.bytes())
    found = Watched()
    found.want({"ggml-org/large": (str(path), None)})
    assert found.round.acquire(timeout=WAIT)
    assert "only 1 of its 3 files" in found.sample()["ggml-org/large"]["fault"]


def test_a_mapped_file_is_the_model_where_it_is_the_only_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procfs, "ROOT", str(tmp_path))

    def of(*paths: str) -> str | None:
        (tmp_path / "7").mkdir(exist_ok=True)
        lines = [f"7f00-7f01 r--p 00000000 08:01 42 {path}" for path in paths]
        (tmp_path / "7/maps").write_text("\n".join(["7f00-7f01 rw-p 0 00:00 0", *lines]))
        return models.mapped(7)

    assert of("/usr/lib/libc.so.6", "/srv/a b.gguf", "/srv/a b.gguf") == "/srv/a b.gguf"
    assert of("/root/.cache/huggingface/hub/models--a/blobs/5d1") is not None
    first = "/srv/m-00001-of-00002.gguf"
    assert of("/srv/m-00002-of-00002.gguf", first) == first
    assert of("/srv/a.gguf", "/srv/draft.gguf") is None
    assert of("/usr/lib/libc.so.6") is None
    assert models.mapped(8) is None


@pytest.mark.slow
def test_a_model_that_the_server_fetched_is_read_where_it_says_that_it_is(
    node: FakeNode, tmp_path: Path
) -> None:
    place = tmp_path / "root/root/.cache/m.gguf"
    place.parent.mkdir(parents=True)
    place.write_bytes(model().bytes())
    server = Worker()
    told = json.loads(server.answers["/props"].partition(b"\r\n\r\n")[2])
    told |= {"model_path": "/root/.cache/m.gguf", "modalities": {"vision": True, "audio": False}}
    server.answers["/props"] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + (
        json.dumps(told).encode()
    )
    words = ["/opt/llama-server", "-hf", "ggml-org/m-GGUF:Q8_0", "--port", str(server.port)]
    node.process(100, words, unit="llama-hf.service")
    node.unit("llama-hf.service", " ".join(words), 100)
    running = node.start(environment={"HOST_ROOT": str(tmp_path / "root")})

    def known(found: Any) -> bool:
        return "layer_bytes" in (found.get("models") or {}).get("ggml-org/m-GGUF:Q8_0", {})

    try:
        document = running.until(known)
        assert document["models"]["ggml-org/m-GGUF:Q8_0"]["path"] == "/root/.cache/m.gguf"
        launch = document["workers"]["llama-hf.service"]["launch"]
        assert launch["extras"] == ["--mmproj"]
    finally:
        running.close()
        server.close()


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
        document = running.until(
            lambda found: "layer_bytes" in (found.get("models") or {}).get("/srv/m.gguf", {})
        )
        assert list(document["models"]) == ["/srv/m.gguf"]
        assert document["models"]["/srv/m.gguf"]["layer_bytes"] == [160, 160]
        for number in range(3):
            running.send(b'{"beat":%d}\n' % number)
            patch = running.line()
            assert patch is not None
            assert "models" not in patch
    finally:
        running.close()
