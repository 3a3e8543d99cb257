"""What the header of a model's file says: its shape, and how large its tensors are."""

from __future__ import annotations

from msgspec import Struct


class ModelFile(Struct, frozen=True):
    """One GGUF model as its header describes it; sizes are bytes, same as `gguf-dump --no-data`.

    Names follow the keys of the format; what a header does not hold is None. A tuple has one
    entry for all layers or one for each. `files` counts the parts of a split model, `size_bytes`
    is of all. `layer_bytes` are the tensors of each layer, `other_bytes` those of none (norms),
    `side_embedding_…` are of what each layer has beside. `output_bytes` is 0 where the output layer
    is the token embedding. `window_tokens` is the sliding window, `window_pattern` how often a
    layer sees everything, or each layer's own flag. `state_…` are of recurrent layers (SSM),
    `state_layers` counts them, `recurrent_layers` flags each, every `attention_interval`th attends.
    `dense_layers` are the first ones, without experts, `draft_layers` the last ones, which only
    draft. `reading` is set while the node has not read it yet. `fault` is one sentence.
    """

    path: str
    files: int | None = None
    size_bytes: int | None = None
    architecture: str | None = None
    file_type: int | None = None
    layers: int | None = None
    context_tokens: int | None = None
    embedding_length: int | None = None
    side_embedding_length: int | None = None
    vocabulary: int | None = None
    heads: tuple[int, ...] | None = None
    heads_kv: tuple[int, ...] | None = None
    key_length: int | None = None
    value_length: int | None = None
    key_length_window: int | None = None
    value_length_window: int | None = None
    key_length_latent: int | None = None
    feed_forward_length: tuple[int, ...] | None = None
    window_tokens: int | None = None
    window_pattern: tuple[int, ...] | None = None
    shared_kv_layers: int | None = None
    dense_layers: int | None = None
    draft_layers: int | None = None
    recurrent_layers: tuple[int, ...] | None = None
    attention_interval: int | None = None
    convolution_length: int | None = None
    experts: int | None = None
    experts_used: int | None = None
    experts_shared: int | None = None
    expert_feed_forward_length: int | None = None
    expert_shared_feed_forward_length: int | None = None
    state_kernel: int | None = None
    state_inner: int | None = None
    state_size: int | None = None
    state_groups: int | None = None
    state_layers: int | None = None
    rope_dimensions: int | None = None
    rope_base: float | None = None
    rope_scaling: str | None = None
    embedding_bytes: int | None = None
    side_embedding_bytes: int | None = None
    output_bytes: int | None = None
    other_bytes: int | None = None
    layer_bytes: tuple[int, ...] | None = None
    reading: bool | None = None
    fault: str | None = None
