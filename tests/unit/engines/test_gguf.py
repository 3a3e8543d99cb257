"""Headers of GGUF files: both byte orders and versions, whole, cut short and hostile."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamatop.engines import gguf

STRING, ARRAY, U32, BOOL, F32 = 8, 9, 4, 7, 6


class File:
    """A GGUF file in the making; `order` is `<` or `>`."""

    def __init__(self, order: str = "<", version: int = 3) -> None:
        self.order = order
        self.version = version
        self.keys: list[bytes] = []
        self.tensors: list[bytes] = []
        self.data = 0

    def pack(self, code: str, *values: Any) -> bytes:
        return struct.pack(self.order + code, *values)

    def text(self, value: str) -> bytes:
        return self.pack("Q", len(value.encode())) + value.encode()

    def key(self, name: str, kind: int, packed: bytes) -> None:
        self.keys.append(self.text(name) + self.pack("I", kind) + packed)

    def number(self, name: str, value: int) -> None:
        self.key(name, U32, self.pack("I", value))

    def words(self, name: str, values: list[str]) -> None:
        head = self.pack("IQ", STRING, len(values))
        self.key(name, ARRAY, head + b"".join(self.text(value) for value in values))

    def numbers(self, name: str, values: list[int]) -> None:
        head = self.pack("IQ", U32, len(values))
        self.key(name, ARRAY, head + self.pack(f"{len(values)}I", *values))

    def tensor(self, name: str, size: int) -> None:
        self.tensors.append(self.text(name) + self.pack("IQIQ", 1, size // 2, 1, self.data))
        self.data += size

    def bytes(self, data: int | None = None) -> bytes:
        counts = self.pack("QQ", len(self.tensors), len(self.keys))
        head = b"GGUF" + self.pack("I", self.version) + counts
        head += b"".join(self.keys) + b"".join(self.tensors)
        return head + bytes(-len(head) % 32) + bytes(self.data if data is None else data)


def model(order: str = "<", version: int = 3) -> File:
    file = File(order, version)
    file.key("general.architecture", STRING, file.text("qwen2"))
    file.number("qwen2.block_count", 2)
    file.number("qwen2.embedding_length", 3584)
    file.numbers("qwen2.attention.head_count_kv", [4, 0])
    file.key("qwen2.rope.freq_base", F32, file.pack("f", 1e6))
    file.words("tokenizer.ggml.tokens", [f"word{number}" for number in range(20_000)])
    file.numbers("tokenizer.ggml.token_type", [1] * 20_000)
    file.tensor("token_embd.weight", 640)
    file.tensor("output.weight", 320)
    file.tensor("output_norm.weight", 32)
    for layer in range(2):
        file.tensor(f"blk.{layer}.attn_q.weight", 64)
        file.tensor(f"blk.{layer}.ffn_up.weight", 96)
    return file


def read(data: bytes, size: int | None = None) -> gguf.Header:
    def some(offset: int, count: int) -> bytes:
        assert count <= 2**20, "a header is read in small pieces"
        return data[offset : offset + count]

    return gguf.header(some, len(data) if size is None else size, lambda: None)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [2, 3])
def test_a_header_says_the_shape_and_the_bytes_of_each_layer(order: str, version: int) -> None:
    found = gguf.summary([read(model(order, version).bytes())])
    assert found["architecture"] == "qwen2"
    assert (found["layers"], found["embedding_length"]) == (2, 3584)
    assert found["heads_kv"] == [4, 0]
    assert found["vocabulary"] == 20_000
    assert found["rope_base"] == 1e6
    assert found["layer_bytes"] == [160, 160]
    assert (found["embedding_bytes"], found["output_bytes"], found["other_bytes"]) == (640, 320, 32)
    assert "heads" not in found


def test_the_tensors_themselves_are_never_read() -> None:
    data = model().bytes()
    header = len(data) - model().data
    furthest = 0

    def some(offset: int, count: int) -> bytes:
        nonlocal furthest
        furthest = max(furthest, offset)
        return data[offset : offset + count]

    gguf.header(some, len(data), lambda: None)
    assert furthest < header


def test_words_are_passed_over_with_pauses() -> None:
    pauses = []
    data = model().bytes()
    gguf.header(lambda at, count: data[at : at + count], len(data), lambda: pauses.append(1))
    assert len(pauses) >= 5


def test_parts_of_a_split_model_are_joined() -> None:
    second = File()
    second.number("split.no", 1)
    second.tensor("blk.2.attn_q.weight", 512)
    found = gguf.summary([read(model().bytes()), read(second.bytes())])
    assert found["layer_bytes"] == [160, 160, 512]
    assert found["architecture"] == "qwen2"


def test_names_of_parts() -> None:
    assert gguf.parts("/m/a-00001-of-00003.gguf") == [
        f"/m/a-0000{number}-of-00003.gguf" for number in (1, 2, 3)
    ]
    assert gguf.parts("/m/a.gguf") == ["/m/a.gguf"]
    for hostile in ("/m/a-00001-of-99999.gguf", "/m/a-00001-of-00000.gguf"):
        assert gguf.parts(hostile) == [hostile]


def counts(tensors: int, keys: int) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys)


def with_key(packed: bytes) -> bytes:
    return counts(0, 1) + struct.pack("<Q", 1) + b"k" + packed


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "ends within its header"),
        (b"GGML" + bytes(40), "no GGUF file"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(40), "version is 1"),
        (b"GGUF" + struct.pack("<I", 77) + bytes(40), "version is 77"),
        (counts(2**60, 0), "claims 0 keys"),
        (counts(0, 2**60), "claims"),
        (counts(0, 1) + struct.pack("<Q", 2**62), "a name of"),
        (with_key(struct.pack("<IQ", STRING, 2**63)), "ends within its header"),
        (with_key(struct.pack("<IIQ", ARRAY, STRING, 2**62)), "ends within its header"),
        (with_key(struct.pack("<IIQ", ARRAY, U32, 2**62)), "ends within its header"),
        (with_key(struct.pack("<IIQ", ARRAY, ARRAY, 1)), "array of unknown type"),
        (with_key(struct.pack("<I", 99)), "unknown type 99"),
        (counts(1, 0) + struct.pack("<Q", 1) + b"t" + struct.pack("<I", 2**31), "dimensions"),
        (model().bytes(data=500), "cut short"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, said: str) -> None:
    with pytest.raises(gguf.HeaderError, match=said):
        read(data)


def test_a_claim_beyond_all_headers_is_refused_in_a_huge_file() -> None:
    data = with_key(struct.pack("<IQ", STRING, 2**40)) + bytes(1000)
    with pytest.raises(gguf.HeaderError, match="more than 128 MB"):
        read(data, 2**45)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_number_that_is_none_is_not_told(value: float) -> None:
    file = File()
    file.key("general.architecture", STRING, file.text("llama"))
    file.key("llama.rope.freq_base", F32, file.pack("f", value))
    head = file.pack("IQ", F32, 1)
    file.key("llama.attention.head_count", ARRAY, head + file.pack("f", value))
    found = gguf.summary([read(file.bytes())])
    assert "rope_base" not in found
    assert "heads" not in found


def test_a_layer_number_out_of_all_bounds_is_refused() -> None:
    file = model()
    file.tensor("blk.99999.attn_q.weight", 64)
    with pytest.raises(gguf.HeaderError, match="layer 99999"):
        gguf.summary([read(file.bytes())])


def test_every_truncation_is_an_error_and_nothing_else() -> None:
    data = File()
    data.key("general.architecture", STRING, data.text("llama"))
    data.numbers("llama.attention.head_count", [1, 2])
    data.words("tokenizer.ggml.tokens", ["a", "b"])
    data.tensor("blk.0.attn_q.weight", 64)
    whole = data.bytes()
    for length in range(len(whole) - 63):
        with pytest.raises(gguf.HeaderError):
            read(whole[:length])


@given(st.integers(0, 2000), st.binary(min_size=1, max_size=12))
def test_any_damage_is_read_or_refused(place: int, damage: bytes) -> None:
    file = File()
    file.key("general.architecture", STRING, file.text("llama"))
    file.numbers("llama.attention.head_count", list(range(64)))
    file.words("tokenizer.ggml.tokens", ["word"] * 64)
    for layer in range(8):
        file.tensor(f"blk.{layer}.attn_q.weight", 64)
    data = bytearray(file.bytes())
    data[place % len(data) : place % len(data) + len(damage)] = damage
    try:
        found = gguf.summary([read(bytes(data))])
    except gguf.HeaderError:
        return
    assert len(found["architecture"]) <= 64
