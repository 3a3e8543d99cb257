"""The files of simulated models: a GGUF header, and nothing where the weights would be."""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

from llamatop.engines import gguf

from .shape import Model

_STRING, _NUMBER = 8, 4
_ALIGNMENT = 32
# bits an element, as Q4_K_M has them in these two tensors
_EMBEDDING_BITS, _OUTPUT_BITS = 4.5, 6.5625


def write(root: Path, model: Model) -> None:
    """Put the model's file under `root`; it takes no room but for its header."""
    path = root / model.path.lstrip("/")
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(header(model))
        file.truncate(model.size_bytes)


@lru_cache(maxsize=16)
def summary(model: Model) -> dict[str, Any]:
    """What a probe tells of the model's file."""
    data = header(model)

    def read(offset: int, count: int) -> bytes:
        return data[offset : offset + count]

    told = gguf.summary([gguf.header(read, model.size_bytes, lambda: None)])
    return {"path": model.path, "files": 1, "size_bytes": model.size_bytes, **told}


def header(model: Model) -> bytes:
    """The bytes before the first tensor."""
    name = model.architecture
    keys = [_text("general.architecture") + struct.pack("<I", _STRING) + _text(name)]
    numbers = {
        "block_count": model.layers,
        "context_length": model.trained_context,
        "embedding_length": model.embedding,
        "feed_forward_length": model.feed_forward,
        "attention.head_count": model.heads,
        "attention.head_count_kv": model.heads_kv,
        "vocab_size": model.vocabulary,
    }
    keys += [_text(f"{name}.{key}") + struct.pack("<II", _NUMBER, n) for key, n in numbers.items()]
    tensors, place = [], 0
    for tensor, size in _sizes(model).items():
        tensors.append(_text(tensor) + struct.pack("<IQIQ", 1, size, 0, place))
        place += size
    counts = struct.pack("<QQ", len(tensors), len(keys))
    data = b"GGUF" + struct.pack("<I", 3) + counts + b"".join(keys) + b"".join(tensors)
    return data + bytes(-len(data) % _ALIGNMENT)


def _sizes(model: Model) -> dict[str, int]:
    """A layer is one tensor here; the last one has what is left of the file."""
    elements = model.vocabulary * model.embedding
    embedding = int(elements * _EMBEDDING_BITS / 8)
    output = int(elements * _OUTPUT_BITS / 8)
    each = (model.size_bytes - embedding - output) // model.layers // _ALIGNMENT * _ALIGNMENT
    layers = {f"blk.{layer}.attn_q.weight": each for layer in range(model.layers)}
    return {"token_embd.weight": embedding, "output.weight": output, **layers}


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()
