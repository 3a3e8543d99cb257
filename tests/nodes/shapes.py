"""Models of other shapes than llama's own, with empty weights: only what they allocate matters."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.nodes import shape as _shape
from tests.nodes import shape_tensors as _tensors
from tests.nodes.cache import cached
from tests.nodes.shape import Shape
from tests.nodes.shape_tensors import tensors

if TYPE_CHECKING:
    import gguf

GQA = Shape("gqa", heads_kv=4)
WIDE = Shape("wide", "qwen3", heads=8, heads_kv=2, head=128, words=32000, tied=True)
QUANTIZED = Shape("quantized", heads_kv=4, quantized=True)
EXPERTS = Shape("experts", "qwen3moe", heads_kv=4, feed_forward=256, experts=16, experts_used=4)
WINDOW = Shape("window", "gemma3", layers=12, heads=8, heads_kv=4, head=64, tied=True, window=512)
RECURRENT = Shape("recurrent", "mamba", layers=6, tied=True, state=16)
HYBRID = Shape("hybrid", "jamba", layers=8, heads_kv=4, state=16)
GPT = Shape(
    "gpt",
    "gpt-oss",
    layers=4,
    heads_kv=4,
    head=64,
    experts=8,
    experts_used=4,
    expert_feed_forward=512,
    window=128,
)
_SPARSE = Shape(
    "", heads=8, heads_kv=2, head=64, experts=8, experts_used=4, expert_feed_forward=256, shared=1
)
GLM = replace(_SPARSE, name="glm", architecture="glm4moe", layers=5, dense=1, drafting=1)
LATENT = replace(
    _SPARSE,
    name="latent",
    architecture="deepseek2",
    layers=4,
    heads=32,
    heads_kv=1,
    head=192,
    dense=1,
    latent=512,
)
DELTA = replace(
    _SPARSE, name="delta", architecture="qwen3next", state=128, groups=8, inner=2048, layers=8
)
DELTA_DENSE = replace(
    DELTA, name="delta-dense", architecture="qwen35", layers=4, experts=0, experts_used=0, shared=0
)
DELTA_DRAFT = replace(DELTA, name="delta-draft", architecture="qwen35moe", layers=5, drafting=1)
CONVOLUTION = Shape("convolution", "lfm2", heads=8, heads_kv=2, head=64, tied=True)
GEMMA4 = Shape("gemma4", "gemma4", layers=10, heads=8, heads_kv=2, head=64, tied=True, window=512)
BORROWING = replace(GEMMA4, name="borrowing", side=64, borrowing=5)
ALTERED = replace(
    BORROWING, name="altered", architecture="gemma3n", layers=24, side=256, words=4000
)
SHAPES = (
    *(GQA, WIDE, QUANTIZED, EXPERTS, WINDOW, RECURRENT, HYBRID, GPT, GLM, LATENT, DELTA),
    *(DELTA_DENSE, DELTA_DRAFT, CONVOLUTION, GEMMA4, BORROWING, ALTERED),
)


def shape_files() -> Path:
    """The directory of the shapes' files, each NAME.gguf."""

    def build(place: Path) -> None:
        for shape in SHAPES:
            write_shape(place / f"{shape.name}.gguf", shape)

    sources = [inspect.getsource(one) for one in (_shape, _tensors)]
    return cached("shapes", "".join(sources) + Path(__file__).read_text(), build)


def write_shape(path: Path, shape: Shape) -> None:
    """Write a model of `shape` to `path`; llama-server loads it, what it says is nonsense."""
    import gguf
    import numpy

    writer = gguf.GGUFWriter(str(path), shape.architecture)
    writer.add_name(shape.name)
    _add_shape(writer, shape)
    _add_words(writer, shape)
    for name, dimensions in tensors(shape):
        plain = len(dimensions) == 1 or name.endswith(".bias")
        if plain or "ssm" in name or "gate_inp" in name or "conv" in name:
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
    if shape.heads_by_layer:
        kinds = [shape.attends(layer) for layer in range(shape.layers)]
        writer.add_head_count_kv([shape.heads_kv if attends else 0 for attends in kinds])
    else:
        writer.add_head_count_kv(shape.heads_kv)
    if shape.latent:
        _add_latent(writer, shape)
    elif shape.architecture != "mamba":
        writer.add_key_length(shape.head)
        writer.add_value_length(shape.head)
        writer.add_rope_dimension_count(shape.head)
    writer.add_layer_norm_rms_eps(1e-5)
    quantized, plain = gguf.LlamaFileType.MOSTLY_Q8_0, gguf.LlamaFileType.MOSTLY_F16
    writer.add_file_type(quantized if shape.quantized else plain)
    if shape.experts:
        _add_experts(writer, shape)
    if shape.window:
        writer.add_sliding_window(shape.window)
    if shape.drafting:
        writer.add_nextn_predict_layers(shape.drafting)
    if shape.state:
        writer.add_ssm_conv_kernel(4)
        writer.add_ssm_inner_size(shape.inner or 2 * shape.width)
        writer.add_ssm_state_size(shape.state)
        writer.add_ssm_time_step_rank(
            shape.inner // shape.state if shape.inner else shape.width // 16
        )
    if shape.groups:
        writer.add_ssm_group_count(shape.groups)
        writer.add_rope_dimension_sections([8, 12, 12, 0])
    if shape.architecture.startswith("lfm2"):
        writer.add_shortconv_l_cache(3)
    if shape.architecture in ("gemma4", "gemma3n"):
        writer.add_embedding_length_per_layer_input(shape.side)
        writer.add_shared_kv_layers(shape.borrowing)
        writer.add_sliding_window_pattern([layer % 5 != 4 for layer in range(shape.layers)])
        if shape.architecture == "gemma4":
            writer.add_key_length_swa(shape.head)
            writer.add_value_length_swa(shape.head)
            writer.add_rope_dimension_count_swa(shape.head)
        else:
            writer.add_altup_num_inputs(4)
            writer.add_altup_active_idx(0)


def _add_experts(writer: gguf.GGUFWriter, shape: Shape) -> None:
    deep = shape.expert_feed_forward or shape.feed_forward
    writer.add_expert_count(shape.experts)
    writer.add_expert_used_count(shape.experts_used)
    writer.add_expert_feed_forward_length(deep)
    if shape.shared:
        writer.add_expert_shared_count(shape.shared)
        writer.add_expert_shared_feed_forward_length(shape.shared * deep)
    if shape.dense:
        writer.add_leading_dense_block_count(shape.dense)


def _add_latent(writer: gguf.GGUFWriter, shape: Shape) -> None:
    turned = shape.head // 3
    writer.add_q_lora_rank(shape.width // 2)
    writer.add_kv_lora_rank(shape.latent)
    writer.add_key_length(shape.latent + turned)
    writer.add_value_length(shape.latent)
    writer.add_key_length_mla(shape.head)
    writer.add_value_length_mla(shape.head - turned)
    writer.add_rope_dimension_count(turned)


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
