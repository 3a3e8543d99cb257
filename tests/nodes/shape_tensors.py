"""The tensors of a shape by their names in a GGUF file, each with its dimensions."""

from __future__ import annotations

from collections.abc import Iterator

from tests.nodes.shape import Shape

Tensors = dict[str, tuple[int, ...]]

_NORMED = ("qwen3", "qwen3moe", "gemma3", "gemma3n", "gemma4", "glm4moe", "lfm2", "lfm2moe")
_DELTA = ("qwen3next", "qwen35", "qwen35moe")
_NORMED_AFTER = ("gpt-oss", "glm4moe", *_DELTA)
_BARE = ("ssm_a", "ssm_d")


def tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """All of them."""
    width = shape.width
    yield "token_embd.weight", (shape.words, width)
    lfm = shape.architecture.startswith("lfm2")
    yield ("token_embd_norm" if lfm else "output_norm") + ".weight", (width,)
    if not shape.tied:
        yield "output.weight", (shape.words, width)
    if shape.side:
        deep, side = shape.layers * shape.side, shape.side
        yield "per_layer_token_embd.weight", (shape.words, deep)
        yield "per_layer_model_proj.weight", (deep, width)
        yield "per_layer_proj_norm.weight", (side,)
    if shape.architecture == "gemma4":
        yield "rope_freqs.weight", (shape.head // 2,)
    if shape.architecture == "gemma3n":
        yield "altup_proj.weight", (3, width, width)
        yield "altup_unembd_proj.weight", (3, width, width)
    for layer in range(shape.layers):
        for name, dimensions in _layer(shape, layer).items():
            bare = "." in name or name in _BARE
            yield f"blk.{layer}.{name}{'' if bare else '.weight'}", dimensions


def _layer(shape: Shape, layer: int) -> Tensors:
    width, name = shape.width, shape.architecture
    if not shape.attends(layer):
        part = _convolution(shape) if name.startswith("lfm2") else _recurrence(shape)
    elif shape.latent:
        part = _latent(shape)
    else:
        part = _attention(shape)
    if name == "mamba":
        return part
    part.update(_experts(shape) if shape.experts and layer >= shape.dense else _dense(shape))
    if name in _NORMED_AFTER:
        part["post_attention_norm"] = (width,)
    if shape.side:
        part.update({"inp_gate": (shape.side, width), "proj": (width, shape.side)})
        part["post_norm"] = (width,)
    if name == "gemma3n":
        part.update(_altered(width))
    if name.startswith("gemma"):
        part.update({"post_attention_norm": (width,), "post_ffw_norm": (width,)})
    if shape.drafts(layer):
        part["nextn.eh_proj.weight"] = (width, 2 * width)
        for norm in ("enorm", "hnorm", "shared_head_norm"):
            part[f"nextn.{norm}.weight"] = (width,)
    return part


def _attention(shape: Shape) -> Tensors:
    width, head = shape.width, shape.head
    queries = shape.heads * head * (2 if shape.architecture in _DELTA else 1)
    found: Tensors = {
        "attn_norm": (width,),
        "attn_q": (queries, width),
        "attn_k": (shape.heads_kv * head, width),
        "attn_v": (shape.heads_kv * head, width),
        "attn_output": (width, shape.heads * head),
    }
    if shape.architecture in _NORMED + _DELTA:
        found.update({"attn_q_norm": (head,), "attn_k_norm": (head,)})
    if shape.architecture == "gpt-oss":
        found.update({"attn_sinks": (shape.heads,), "attn_output.bias": (width,)})
    return found


def _latent(shape: Shape) -> Tensors:
    """Keys and values from one compressed vector a token, the last `head` / 3 elements rotated."""
    width, rank, turned = shape.width, shape.latent, shape.head // 3
    plain = shape.head - turned
    return {
        "attn_norm": (width,),
        "attn_q_a": (width // 2, width),
        "attn_q_a_norm": (width // 2,),
        "attn_q_b": (shape.heads * shape.head, width // 2),
        "attn_kv_a_mqa": (rank + turned, width),
        "attn_kv_a_norm": (rank,),
        "attn_k_b": (shape.heads, rank, plain),
        "attn_v_b": (shape.heads, plain, rank),
        "attn_output": (width, shape.heads * plain),
    }


def _dense(shape: Shape) -> Tensors:
    width, deep = shape.width, shape.feed_forward
    found: Tensors = {"ffn_gate": (deep, width), "ffn_up": (deep, width), "ffn_down": (width, deep)}
    if shape.architecture not in _NORMED_AFTER:
        found["ffn_norm"] = (width,)
    return found


def _experts(shape: Shape) -> Tensors:
    width, deep = shape.width, shape.expert_feed_forward or shape.feed_forward
    found: Tensors = {
        "ffn_gate_inp": (shape.experts, width),
        "ffn_gate_exps": (shape.experts, deep, width),
        "ffn_up_exps": (shape.experts, deep, width),
        "ffn_down_exps": (shape.experts, width, deep),
    }
    if shape.architecture not in _NORMED_AFTER:
        found["ffn_norm"] = (width,)
    if shape.architecture == "gpt-oss":
        found["ffn_gate_inp.bias"] = (shape.experts,)
        for part, size in (("gate", deep), ("up", deep), ("down", width)):
            found[f"ffn_{part}_exps.bias"] = (shape.experts, size)
    if shape.architecture in ("glm4moe", "deepseek2", "lfm2moe"):
        found["exp_probs_b.bias"] = (shape.experts,)
    if shape.shared:
        wide = shape.shared * deep
        found.update({"ffn_gate_shexp": (wide, width), "ffn_up_shexp": (wide, width)})
        found["ffn_down_shexp"] = (width, wide)
    if shape.architecture in _DELTA:
        found["ffn_gate_inp_shexp"] = (width,)
    return found


def _recurrence(shape: Shape) -> Tensors:
    if shape.architecture in _DELTA:
        return _delta(shape)
    width, inner, rank = shape.width, 2 * shape.width, shape.width // 16
    found: Tensors = {
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
        found["ssm_dt_norm"] = (rank,)
        found.update({"ssm_b_norm": (shape.state,), "ssm_c_norm": (shape.state,)})
    return found


def _delta(shape: Shape) -> Tensors:
    """Gated delta net: `inner` wide in all, `groups` heads of keys as long as the state."""
    width, heads = shape.width, shape.inner // shape.state
    mixed = 2 * shape.groups * shape.state + shape.inner
    found: Tensors = {
        "attn_norm": (width,),
        "attn_qkv": (mixed, width),
        "attn_gate": (shape.inner, width),
        "ssm_conv1d": (mixed, 4),
        "ssm_dt.bias": (heads,),
        "ssm_a": (heads,),
        "ssm_norm": (shape.state,),
        "ssm_out": (width, shape.inner),
    }
    if shape.architecture == "qwen3next":
        return {**found, "ssm_ba": (2 * heads, width)}
    return {**found, "ssm_beta": (heads, width), "ssm_alpha": (heads, width)}


def _convolution(shape: Shape) -> Tensors:
    width = shape.width
    return {
        "attn_norm": (width,),
        "shortconv.conv.weight": (width, 3),
        "shortconv.in_proj.weight": (3 * width, width),
        "shortconv.out_proj.weight": (width, width),
    }


def _altered(width: int) -> Tensors:
    """Four states a token instead of one, and a shortcut past attention."""
    return {
        "altup_correct_coef": (4, 4),
        "altup_correct_scale": (width,),
        "altup_predict_coef": (16, 4),
        "altup_router": (4, width),
        "altup_router_norm": (width,),
        "laurel_l": (64, width),
        "laurel_r": (width, 64),
        "laurel_post_norm": (width,),
    }
