"""The fit of a model, beside what a real llama-server says that it allocates for it."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
from pathlib import Path

import pytest

from llamatop.advise import fit, memory, shapes
from tests.nodes.llama import llama_server
from tests.nodes.shapes import shape_files
from tests.unit.advise import allocations
from tests.unit.advise.allocations import COMMAND, MEBIBYTE, TOLERANCE

pytestmark = pytest.mark.slow


def started(file: Path, arguments: str) -> str:
    """The log of a server from its start until it has loaded the model."""
    folder = llama_server()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    words = shlex.split(COMMAND + arguments)[1:]
    process = subprocess.Popen(
        [folder / "llama-server", "-m", file, "--port", str(port), "-t", "1", *words],
        env={**os.environ, "LD_LIBRARY_PATH": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    lines = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "model loaded" in line or "listening" in line:
                break
    finally:
        process.kill()
        process.wait()
    return "".join(lines)


@pytest.mark.parametrize("combination", allocations.TRIED)
def test_the_sum_of_its_buffers_is_reckoned_to_a_twentieth(combination: str) -> None:
    name, _, arguments = combination.partition(" ")
    file = shape_files() / f"{name}.gguf"
    seen = allocations.allocated(started(file, arguments))
    shape, missing = shapes.of(allocations.model_file(file))
    demand, unasked = fit.asked(allocations.sample(arguments, seen))
    assert shape is not None, missing
    assert demand is not None, unasked
    host = memory.needs(shape, demand, memory.CPU).host
    assert host.total / MEBIBYTE == pytest.approx(seen.total(), rel=TOLERANCE)
