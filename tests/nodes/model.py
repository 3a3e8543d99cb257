"""Tiny llama models with random weights: real files for a real llama-server, made in a second."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

_SPECIAL = ("<unk>", "<s>", "</s>")
_TYPE_NORMAL, _TYPE_UNKNOWN, _TYPE_CONTROL, _TYPE_BYTE = 1, 2, 3, 6
_SILENCE = -40.0


@dataclass(frozen=True)
class ModelSize:
    """What a generated model costs: `width` x `layers`, `feed_forward` wide.

    `words` is the number of two-syllable tokens added to the vocabulary; a million of them make a
    load last seconds while generation stays cheap.
    """

    name: str
    width: int
    layers: int
    feed_forward: int
    words: int = 400
    context: int = 131072


TINY = ModelSize("tiny", width=64, layers=2, feed_forward=128)
STEADY = ModelSize("steady", width=512, layers=8, feed_forward=1408)
HEAVY = ModelSize("heavy", width=64, layers=2, feed_forward=128, words=900_000)
SIZES = (TINY, STEADY, HEAVY)


def _words(count: int) -> list[str]:
    consonants, vowels = "bcdfghjklmnpqrstvwxz", "aeiouy"
    syllables = ["".join(pair) for pair in product(consonants, vowels)]
    found = ["\u2581" + syllable for syllable in syllables[:count]]
    for parts in product(syllables, repeat=3):
        if len(found) >= count:
            break
        found.append("\u2581" + "".join(parts))
    return found


def write_model(path: Path, size: ModelSize) -> None:
    """Write a llama model of `size` to `path`, the same bytes every time.

    Every token it ever produces is printable ASCII and none ends the text, so that one streamed
    event is one token and `n_predict` alone fixes the length of an answer.
    """
    import gguf
    import numpy

    ordinary = ["\u2581", *(chr(code) for code in range(33, 127)), *_words(size.words)]
    tokens = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *ordinary]
    kinds = [_TYPE_UNKNOWN, _TYPE_CONTROL, _TYPE_CONTROL]
    kinds += [_TYPE_BYTE] * 256 + [_TYPE_NORMAL] * len(ordinary)
    silent = len(_SPECIAL) + 256

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(size.name)
    writer.add_context_length(size.context)
    writer.add_embedding_length(size.width)
    writer.add_block_count(size.layers)
    writer.add_feed_forward_length(size.feed_forward)
    writer.add_head_count(size.width // 32)
    writer.add_head_count_kv(size.width // 32)
    writer.add_rope_dimension_count(32)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(index) for index in range(len(tokens))])
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
    )

    random = numpy.random.default_rng(7)

    def weights(rows: int, columns: int, scale: float = 0.02) -> numpy.ndarray:
        return (random.standard_normal((rows, columns), dtype=numpy.float32) * scale).astype(
            numpy.float16
        )

    # The first channel is the same for every token and the layers barely move it: it carries a
    # constant with which the output layer silences byte and control tokens.
    embedding = weights(len(tokens), size.width, 0.5)
    embedding[:, 0] = 4.0
    output = weights(len(tokens), size.width, 0.5)
    output[:, 0] = 0.0
    output[:silent, 0] = _SILENCE
    ones = numpy.ones(size.width, dtype=numpy.float32)
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output_norm.weight", ones)
    writer.add_tensor("output.weight", output)
    for layer in range(size.layers):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", ones)
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"blk.{layer}.{part}.weight", weights(size.width, size.width))
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", ones)
        writer.add_tensor(f"blk.{layer}.ffn_gate.weight", weights(size.feed_forward, size.width))
        writer.add_tensor(f"blk.{layer}.ffn_up.weight", weights(size.feed_forward, size.width))
        writer.add_tensor(f"blk.{layer}.ffn_down.weight", weights(size.width, size.feed_forward))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
