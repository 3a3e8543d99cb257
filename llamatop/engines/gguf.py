"""The header of a GGUF file: its keys and where its tensors lie, never the tensors. Pure.

Nothing in it is believed: counts and lengths are bounded, and what does not fit the file's size is
a `HeaderError`.
"""

from __future__ import annotations

import math
import re
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Dict, List, Tuple

    Read = Callable[[int, int], bytes]

_BLOCK = 2**18
_MOST_HEADER_BYTES = 2**27
_MOST_KEYS = 2**16
_MOST_TENSORS = 2**17
_MOST_NAME_BYTES = 2**16
_MOST_KEPT = 1024
_MOST_KEPT_BYTES = 256
# how many strings of an array are passed over between two calls of `pause`
_STRINGS = 4096

_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
_SCALARS[12] = "d"
_PART = re.compile(r"(.*-)(\d{5})-of-(\d{5})(\.gguf)$")
_MOST_PARTS = 512
_LAYER = re.compile(r"blk\.(\d{1,5})\.")

# the fields of ModelFile by the key's name after `ARCHITECTURE.`
_NUMBERS = {
    "block_count": "layers",
    "context_length": "context_tokens",
    "embedding_length": "embedding_length",
    "embedding_length_per_layer_input": "side_embedding_length",
    "attention.key_length": "key_length",
    "attention.value_length": "value_length",
    "attention.key_length_swa": "key_length_window",
    "attention.value_length_swa": "value_length_window",
    "attention.key_length_mla": "key_length_latent",
    "attention.sliding_window": "window_tokens",
    "attention.shared_kv_layers": "shared_kv_layers",
    "full_attention_interval": "attention_interval",
    "shortconv.l_cache": "convolution_length",
    "expert_count": "experts",
    "expert_used_count": "experts_used",
    "expert_feed_forward_length": "expert_feed_forward_length",
    "expert_shared_feed_forward_length": "expert_shared_feed_forward_length",
    "expert_shared_count": "experts_shared",
    "leading_dense_block_count": "dense_layers",
    "nextn_predict_layers": "draft_layers",
    "ssm.conv_kernel": "state_kernel",
    "ssm.inner_size": "state_inner",
    "ssm.state_size": "state_size",
    "ssm.group_count": "state_groups",
    "vocab_size": "vocabulary",
    "rope.dimension_count": "rope_dimensions",
    "rope.freq_base": "rope_base",
}
_LISTS = {
    "attention.head_count": "heads",
    "attention.head_count_kv": "heads_kv",
    "feed_forward_length": "feed_forward_length",
    "attention.sliding_window_pattern": "window_pattern",
    "attention.recurrent_layers": "recurrent_layers",
}


class HeaderError(Exception):
    """Why a header cannot be read, as one clause."""


class Header:
    """Keys with their values (an array of strings is its length), and bytes by tensor name."""

    def __init__(self, keys: Dict[str, Any], tensors: Dict[str, int]) -> None:
        self.keys = keys
        self.tensors = tensors


class _Cursor:
    """Reads forward through a file in blocks; never past its end or the bound on headers."""

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self._end = min(size, _MOST_HEADER_BYTES)
        self._size = size
        self._block = b""
        self._start = 0
        self.at = 0
        self.order = "<"

    def take(self, count: int) -> bytes:
        """The next bytes."""
        place = self.at - self._start
        if place < 0 or place + count > len(self._block):
            self._within(count)
            self._start, place = self.at, 0
            self._block = self._read(self.at, max(count, min(_BLOCK, self._end - self.at)))
            if len(self._block) < count:
                raise HeaderError("the file ends within its header")
        self.at += count
        return self._block[place : place + count]

    def skip(self, count: int) -> None:
        """Pass over bytes unread."""
        self._within(count)
        self.at += count

    def _within(self, count: int) -> None:
        if count < 0 or self.at + count > self._end:
            if self._end < self._size:
                raise HeaderError("its header claims more than %d MB" % (self._end >> 20))
            raise HeaderError("the file ends within its header")

    def number(self, code: str) -> Any:
        """One value of struct's type."""
        shape = self.order + code
        return struct.unpack(shape, self.take(struct.calcsize(shape)))[0]

    def text(self, most: int) -> str:
        """A string with its length before it."""
        length = self.number("Q")
        if length > most:
            raise HeaderError("a name of %d bytes in its header" % length)
        return self.take(length).decode("utf-8", "replace")

    def skip_texts(self, count: int, pause: Callable[[], None]) -> None:
        """Pass over strings; `pause` is called now and then."""
        lengths = struct.Struct(self.order + "Q")
        while count:
            self.take(8)
            self.at -= 8
            block, place = self._block, self.at - self._start
            last = len(block) - 8
            before = max(0, count - _STRINGS)
            while count > before and place <= last:
                place += 8 + lengths.unpack_from(block, place)[0]
                count -= 1
            self.skip(self._start + place - self.at)
            pause()


def header(read: Read, size: int, pause: Callable[[], None]) -> Header:
    """The header of a file of `size` bytes, by `read(offset, count)` of small blocks.

    `pause` is called after at most a few milliseconds of work. Raises HeaderError.
    """
    cursor = _Cursor(read, size)
    if cursor.take(4) != b"GGUF":
        raise HeaderError("it is no GGUF file")
    version = cursor.number("I")
    if version > 0xFFFF:
        cursor.order = ">"
        version = struct.unpack(">I", struct.pack("<I", version))[0]
    if version not in (2, 3):
        raise HeaderError("its GGUF version is %d, not 2 or 3" % version)
    tensor_count, key_count = cursor.number("Q"), cursor.number("Q")
    if tensor_count > _MOST_TENSORS or key_count > _MOST_KEYS:
        raise HeaderError("its header claims %d keys, %d tensors" % (key_count, tensor_count))
    keys: Dict[str, Any] = {}
    for _ in range(key_count):
        name = cursor.text(_MOST_NAME_BYTES)
        keys[name] = _value(cursor, cursor.number("I"), pause)
    offsets: List[Tuple[int, str]] = []
    for position in range(tensor_count):
        name = cursor.text(_MOST_NAME_BYTES)
        dimensions = cursor.number("I")
        if dimensions > 8:
            raise HeaderError("a tensor of %d dimensions" % dimensions)
        cursor.skip(8 * dimensions + 4)
        offsets.append((cursor.number("Q"), name))
        if position % 256 == 255:
            pause()
    return Header(keys, _sizes(offsets, _aligned(cursor.at, keys), size))


def _aligned(at: int, keys: Dict[str, Any]) -> int:
    step = keys.get("general.alignment", 32)
    if not isinstance(step, int) or not 0 < step <= 2**20:
        step = 32
    return at + -at % step


def _sizes(offsets: List[Tuple[int, str]], start: int, size: int) -> Dict[str, int]:
    """Each tensor's bytes, padding included: up to where the next one begins."""
    offsets.sort()
    found: Dict[str, int] = {}
    end = size - start
    for offset, name in reversed(offsets):
        if offset >= end:
            raise HeaderError("the file is cut short: %s lies beyond its end" % name[:64])
        found[name] = end - offset
        end = offset
    return found


def _value(cursor: _Cursor, kind: int, pause: Callable[[], None]) -> Any:
    if kind in _SCALARS:
        return cursor.number(_SCALARS[kind])
    if kind == _STRING:
        length = cursor.number("Q")
        kept = cursor.take(min(length, _MOST_KEPT_BYTES))
        cursor.skip(length - len(kept))
        return kept.decode("utf-8", "replace")
    if kind != _ARRAY:
        raise HeaderError("a value of unknown type %d in its header" % kind)
    inner, count = cursor.number("I"), cursor.number("Q")
    if inner == _STRING:
        cursor.skip_texts(count, pause)
        return count
    if inner not in _SCALARS:
        raise HeaderError("an array of unknown type %d in its header" % inner)
    each = struct.calcsize("<" + _SCALARS[inner])
    if count > _MOST_KEPT:
        cursor.skip(count * each)
        return None
    shape = "%s%d%s" % (cursor.order, count, _SCALARS[inner])
    return list(struct.unpack(shape, cursor.take(count * each)))


def parts(path: str) -> List[str]:
    """All files of a model that is split into several (-00001-of-00003.gguf), else `path` alone."""
    match = _PART.match(path)
    count = int(match.group(3)) if match else 1
    if match is None or not 0 < count <= _MOST_PARTS:
        return [path]
    before, after = match.group(1), match.group(4)
    return ["%s%05d-of-%05d%s" % (before, number, count, after) for number in range(1, count + 1)]


def summary(headers: Iterable[Header]) -> Dict[str, Any]:
    """The fields of a ModelFile, from the headers of all its files; raises HeaderError."""
    keys: Dict[str, Any] = {}
    tensors: Dict[str, int] = {}
    count = 0
    for one in headers:
        tensors.update(one.tensors)
        keys = {**one.keys, **keys}
        count += 1
    if count < (_whole(keys.get("split.count")) or 0):
        raise HeaderError("only %d of its %d files are known" % (count, keys["split.count"]))
    architecture = keys.get("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        raise HeaderError("its header names no architecture")
    found: Dict[str, Any] = {"architecture": architecture[:64]}
    for key, field in _NUMBERS.items():
        value = keys.get("%s.%s" % (architecture, key))
        if not isinstance(value, bool) and _is_number(value):
            found[field] = value
    for key, field in _LISTS.items():
        value = keys.get("%s.%s" % (architecture, key))
        if isinstance(value, list) and all(_is_number(item) for item in value):
            found[field] = [int(item) for item in value]
        elif isinstance(value, (int, bool)):
            found[field] = [int(value)]
    scaling = keys.get("%s.rope.scaling.type" % architecture)
    if isinstance(scaling, str):
        found["rope_scaling"] = scaling[:32]
    if isinstance(keys.get("general.file_type"), int):
        found["file_type"] = keys["general.file_type"]
    if isinstance(keys.get("tokenizer.ggml.tokens"), int):
        found["vocabulary"] = keys["tokenizer.ggml.tokens"]
    found.update(_tensor_bytes(tensors))
    return found


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _is_number(value: Any) -> bool:
    """Whether JSON can carry it: an infinity it cannot."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def _tensor_bytes(tensors: Dict[str, int]) -> Dict[str, Any]:
    layers: Dict[int, int] = {}
    found = {"embedding_bytes": 0, "output_bytes": 0, "other_bytes": 0}
    states = 0
    for name, size in tensors.items():
        match = _LAYER.match(name)
        if match:
            number = int(match.group(1))
            layers[number] = layers.get(number, 0) + size
            states += name.endswith(".ssm_in.weight")
        elif name == "token_embd.weight":
            found["embedding_bytes"] += size
        elif name == "per_layer_token_embd.weight":
            found["side_embedding_bytes"] = size
        elif name == "output.weight":
            found["output_bytes"] += size
        else:
            found["other_bytes"] += size
    if layers and max(layers) >= _MOST_KEPT:
        raise HeaderError("a tensor of layer %d in its header" % max(layers))
    listed = [layers.get(number, 0) for number in range(max(layers) + 1)] if layers else []
    return {**found, "layer_bytes": listed, "state_layers": states}
