"""The shape of a model that is made to be loaded, not to be understood."""

from __future__ import annotations

from dataclasses import dataclass

ATTENTION_EVERY = 4
_RECURRENT_BY_HEADS = ("jamba", "lfm2", "lfm2moe")
_RECURRENT_BY_INTERVAL = ("qwen3next", "qwen35", "qwen35moe")


@dataclass(frozen=True)
class Shape:
    """What a model allocates; `head` is the length of one key and of one value.

    `dense` counts the layers before those with experts, `shared` the experts of every token,
    `drafting` the layers at the end that only draft, `latent` is the rank of compressed keys and
    values, `groups` and `inner` are of the recurrent layers,
    `side` is the width of the embeddings that gemma's layers have of their own, `borrowing` counts
    the layers at the end that read the cache of others.
    """

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
    expert_feed_forward: int = 0
    dense: int = 0
    shared: int = 0
    drafting: int = 0
    window: int = 0
    latent: int = 0
    state: int = 0
    groups: int = 0
    inner: int = 0
    side: int = 0
    borrowing: int = 0
    quantized: bool = False

    def attends(self, layer: int) -> bool:
        """Whether the layer has attention, not a recurrent state."""
        if self.architecture == "mamba":
            return False
        if self.architecture not in _RECURRENT_BY_HEADS + _RECURRENT_BY_INTERVAL:
            return True
        return layer % ATTENTION_EVERY == ATTENTION_EVERY - 1 or self.drafts(layer)

    def drafts(self, layer: int) -> bool:
        """Whether the layer only drafts."""
        return layer >= self.layers - self.drafting

    @property
    def heads_by_layer(self) -> bool:
        """Whether the file tells by the number of heads which layers have attention."""
        return self.architecture in _RECURRENT_BY_HEADS
