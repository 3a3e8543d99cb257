"""What a real llama-server's log says that it allocated, beside what is reckoned of it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from llamatop.collect.readers import decode
from llamatop.engines import gguf
from llamatop.model.gguf import ModelFile
from llamatop.model.observed import Launch, Slot, WorkerSample
from llamatop.probe import launch

MEBIBYTE = 2**20
COMMAND = "llama-server --no-warmup -fit off -lv 4 "
TOLERANCE = 0.05
# shape of the model and what the server is told; every line is a combination of its own
TRIED = (
    "gqa -c 4096 -np 4",
    "gqa -c 8192 -np 2 -ctk q8_0 -ctv q8_0 -fa on -ub 256",
    "wide -c 16384 -np 1 -fa off",
    "quantized -c 3000 -np 2 -b 300 -fa off",
    "experts -c 8192 -np 4 -kvu -fa on",
    "window -c 16384 -np 4",
    "window -c 8192 -np 2 --swa-full",
    "recurrent -c 4096 -np 4",
    "hybrid -c 6000 -np 3 -ctk q8_0 -ctv q4_0 -fa on",
    "gpt -c 8192 -np 4",
    "glm -c 8192 -np 4 -kvu",
    "latent -c 8192 -np 2",
    "delta -c 8192 -np 4",
)
# with those that were tried by hand; the log of each is a case
COMBINATIONS = (
    *TRIED,
    "gpt -c 16384 -np 2 -ctk q8_0 -ctv q8_0 -fa on",
    "glm -c 16384 -np 1 -b 1024 -ub 1024",
    "latent -c 4096 -np 4 -fa off",
    "latent -c 32768 -np 1 -ctk q8_0 -ctv q8_0 -fa on",
    "delta -c 32768 -np 1 -ub 1024",
    "delta-dense -c 4096 -np 8 -ub 256",
    "delta-draft -c 8192 -np 2",
    "convolution -c 8192 -np 2",
    "gemma4 -c 8192 -np 2",
    "borrowing -c 16384 -np 4 -kvu -ub 256",
    "altered -c 8192 -np 2",
    "altered -c 32768 -np 1 -ctk q8_0 -ctv q8_0 -fa on",
    "convolution -c 6000 -np 3 -ctk q8_0 -ctv q4_0 -fa on",
)
_BUFFER = re.compile(r"(\S+)\s+(model|KV|RS|compute|output) buffer size =\s*([\d.]+) MiB")
_SLOT = re.compile(r"n_slots = (\d+), n_ctx_slot = (\d+)")
_KEPT = re.compile(r"buffer size|n_ctx_slot|llama_context: (n_|flash|kv_)|offloaded \d")


@dataclass(frozen=True)
class Allocated:
    """MiB by place (`CPU`, `Vulkan0`) and kind (model, KV, RS, compute, output)."""

    buffers: dict[tuple[str, str], float]
    slots: int
    context_tokens: int

    def total(self, *places: str) -> float:
        """The sum over places whose names begin so; over all without one."""
        return sum(
            size for (place, _), size in self.buffers.items() if place.startswith(places or "")
        )


def allocated(log: str) -> Allocated:
    """The buffers that a server's log names, and its slots."""
    buffers: dict[tuple[str, str], float] = {}
    for place, kind, size in _BUFFER.findall(log):
        buffers[place, kind] = buffers.get((place, kind), 0.0) + float(size)
    slots, context = _SLOT.findall(log)[-1]
    return Allocated(buffers, int(slots), int(context))


def worth_keeping(log: str) -> str:
    """The lines that a case needs, without times."""
    lines = [line for line in log.splitlines() if _KEPT.search(line)]
    return "".join(re.sub(r"^[\d.]+ I ", "", line) + "\n" for line in lines)


def sample(arguments: str, seen: Allocated) -> WorkerSample:
    """The worker as a probe would tell of it."""
    found = launch.find(shlex.split(COMMAND + arguments))
    assert found is not None
    complaints: list[str] = []
    told = {**launch.describe(found, {}), "source": "process"}
    read = decode(Launch, told, complaints)
    assert isinstance(read, Launch)
    assert not complaints
    slots = tuple(Slot(place, False, seen.context_tokens) for place in range(seen.slots))
    return WorkerSample("a.service", "llama-server", launch=read, slots=slots)


def model_file(path: Path) -> ModelFile:
    """The header of a file on this disk."""
    with path.open("rb") as file:

        def read(offset: int, count: int) -> bytes:
            file.seek(offset)
            return file.read(count)

        header = gguf.header(read, path.stat().st_size, lambda: None)
    return summarized({"path": str(path), **gguf.summary([header])})


def summarized(document: object) -> ModelFile:
    """A summary as it comes over the wire."""
    complaints: list[str] = []
    found = decode(ModelFile, document, complaints)
    assert isinstance(found, ModelFile)
    assert not complaints
    return found
