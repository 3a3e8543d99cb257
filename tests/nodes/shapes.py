"""Models of other shapes than llama's own, with empty weights: only what they allocate matters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gguf


@dataclass(frozen=True)
class Shape:
    """What a model allocates; `head` is the length of one key and of one value."""

    name: str
    architecture: str = "llama"
    width: int = 512
    layers: int = 8
    heads: int = 16
    heads_kv: int = 16
    head: int = 32
    feed_forward: int = 1408
    words: int = 8000
    tied: bool = False
    experts: int = 0
    experts_used: int = 0
    window: int = 0
    state: int = 0
    quantized: bool = False


GQA = Shape("gqa", heads_kv=4)
WIDE = Shape("wide", "qwen3", heads=8, heads_kv=2, head=128, words=32000, tied=True)
QUANTIZED = Shape("quantized", heads_kv=4, quantized=True)
EXPERTS = Shape("experts", "qwen3moe", heads_kv=4, feed_forward=256, experts=16, experts_used=4)
WINDOW = Shape("window", "gemma3", layers=12, heads=8, heads_kv=4, head=64, tied=True, window=512)
RECURRENT = Shape("recurrent", "mamba", layers=6, tied=True, state=16)
HYBRID = Shape("hybrid", "jamba", layers=8, heads_kv=4, state=16)
SHAPES = (GQA, WIDE, QUANTIZED, EXPERTS, WINDOW, RECURRENT, HYBRID)

_ATTENTION_EVERY = 4


def write_shape(path: Path, shape: Shape) -> None:
    """Write a model of `shape` to `path`; llama-server loads it, what it says is nonsense."""
    import gguf
    import numpy

    writer = gguf.GGUFWriter(str(path), shape.architecture)
    writer.add_name(shape.name)
    _add_shape(writer, shape)
    _add_words(writer, shape)
    for name, dimensions in _tensors(shape):
        if len(dimensions) == 1 or "ssm" in name or "gate_inp" in name:
            writer.add_tensor(name, numpy.zeros(dimensions, dtype=numpy.float32))
        elif shape.quantized:
            rows = numpy.zeros((*dimensions[:-1], dimensions[-1] // 32 * 34), dtype=numpy.uint8)
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, rows, raw_dtype=kind)
        else:
            writer.add_tensor(name, numpy.zeros(dimensions, dtype=numpy.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: gguf.GGUFWriter, shape: Shape) -> None:
    import gguf

    writer.add_context_length(131072)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    if shape.architecture == "jamba":
        kinds = [_attends(shape, layer) for layer in range(shape.layers)]
        writer.add_head_count_kv([shape.heads_kv if attends else 0 for attends in kinds])
    else:
        writer.add_head_count_kv(shape.heads_kv)
    if shape.architecture != "mamba":
        writer.add_key_length(shape.head)
        writer.add_value_length(shape.head)
        writer.add_rope_dimension_count(shape.head)
    writer.add_layer_norm_rms_eps(1e-5)
    quantized, plain = gguf.LlamaFileType.MOSTLY_Q8_0, gguf.LlamaFileType.MOSTLY_F16
    writer.add_file_type(quantized if shape.quantized else plain)
    if shape.experts:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(shape.experts_used)
        writer.add_expert_feed_forward_length(shape.feed_forward)
    if shape.window:
        writer.add_sliding_window(shape.window)
    if shape.state:
        writer.add_ssm_conv_kernel(4)
        writer.add_ssm_inner_size(2 * shape.width)
        writer.add_ssm_state_size(shape.state)
        writer.add_ssm_time_step_rank(shape.width // 16)


def _add_words(writer: gguf.GGUFWriter, shape: Shape) -> None:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [f"\u2581w{number}" for number in range(shape.words - len(tokens))]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(index) for index in range(len(tokens))])
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * (len(tokens) - 259)])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _attends(shape: Shape, layer: int) -> bool:
    if shape.architecture == "mamba":
        return False
    return shape.architecture != "jamba" or layer % _ATTENTION_EVERY == _ATTENTION_EVERY - 1


def _tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    width = shape.width
    yield "token_embd.weight", (shape.words, width)
    yield "output_norm.weight", (width,)
    if not shape.tied:
        yield "output.weight", (shape.words, width)
    for layer in range(shape.layers):
        part = _attention(shape) if _attends(shape, layer) else _recurrence(shape)
        if shape.architecture != "mamba":
            part = {**part, **_feed_forward(shape)}
        for name, dimensions in part.items():
            suffix = "" if name in ("ssm_a", "ssm_d") else ".bias" if "." in name else ".weight"
            yield f"blk.{layer}.{name.removesuffix('.bias')}{suffix}", dimensions


def _attention(shape: Shape) -> dict[str, tuple[int, ...]]:
    width, head = shape.width, shape.head
    found: dict[str, tuple[int, ...]] = {
        "attn_norm": (width,),
        "attn_q": (shape.heads * head, width),
        "attn_k": (shape.heads_kv * head, width),
        "attn_v": (shape.heads_kv * head, width),
        "attn_output": (width, shape.heads * head),
    }
    if shape.architecture in ("qwen3", "qwen3moe", "gemma3"):
        found.update({"attn_q_norm": (head,), "attn_k_norm": (head,)})
    if shape.architecture == "gemma3":
        found.update({"post_attention_norm": (width,), "post_ffw_norm": (width,)})
    return found


def _feed_forward(shape: Shape) -> dict[str, tuple[int, ...]]:
    width, deep = shape.width, shape.feed_forward
    if shape.experts:
        return {
            "ffn_norm": (width,),
            "ffn_gate_inp": (shape.experts, width),
            "ffn_gate_exps": (shape.experts, deep, width),
            "ffn_up_exps": (shape.experts, deep, width),
            "ffn_down_exps": (shape.experts, width, deep),
        }
    return {
        "ffn_norm": (width,),
        "ffn_gate": (deep, width),
        "ffn_up": (deep, width),
        "ffn_down": (width, deep),
    }


def _recurrence(shape: Shape) -> dict[str, tuple[int, ...]]:
    width, inner, rank = shape.width, 2 * shape.width, shape.width // 16
    found: dict[str, tuple[int, ...]] = {
        "attn_norm": (width,),
        "ssm_in": (2 * inner, width),
        "ssm_conv1d": (inner, 4),
        "ssm_conv1d.bias": (inner,),
        "ssm_x": (rank + 2 * shape.state, inner),
        "ssm_dt": (inner, rank),
        "ssm_dt.bias": (inner,),
        "ssm_a": (inner, shape.state),
        "ssm_d": (inner,),
        "ssm_out": (width, inner),
    }
    if shape.architecture == "jamba":
        found.update(
            {
                "ssm_dt_norm": (rank,),
                "ssm_b_norm": (shape.state,),
                "ssm_c_norm": (shape.state,),
            }
        )
    return found
