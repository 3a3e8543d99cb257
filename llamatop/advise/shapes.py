"""What is known of a model's architecture: which layers cache what. Others are unknown here."""

from __future__ import annotations

from functools import lru_cache

from msgspec import Struct

from llamatop.model.gguf import ModelFile

# Keys and values of every token in every layer, nothing else.
_PLAIN_NAMES = """
arcee baichuan bloom chatglm codeshell command-r dbrx deepseek deepseek2 dots1 ernie4_5 ernie4_5-moe
exaone falcon gemma glm4 glm4moe gpt2 gptneox granite granitemoe grok hunyuan-dense hunyuan-moe
internlm2 jais llama minicpm minimax-m2 mistral3 mpt nemotron olmo olmoe orion phi2 phi3 phimoe
qwen2 qwen2moe qwen2vl qwen3 qwen3moe qwen3vl qwen3vlmoe refact seed_oss smollm3 stablelm starcoder
starcoder2 xverse
"""
_PLAIN = frozenset(_PLAIN_NAMES.split())
# A sliding window in all layers but one of so many; True where that one is the first of them.
_WINDOWED = {
    "afmoe": (4, False),
    "cohere2": (4, False),
    "exaone4": (4, False),
    "gemma2": (2, False),
    "gemma3": (6, False),
    "gemma3n": (5, False),
    "gemma4": (6, False),
    "gpt-oss": (2, False),
    "olmo2": (4, False),
    "smallthinker": (4, True),
}
_WINDOW_BY_DEFAULT = {"gemma2": 4096}
# The last layers read the cache of others.
_BORROWING = frozenset({"gemma3n", "gemma4"})
# A state of fixed size a slot; those with heads in some layers cache there as well.
_RECURRENT = frozenset({"granitehybrid", "jamba", "mamba", "mamba2"})
_STATE_ONLY = frozenset({"mamba", "mamba2"})
# The same, where every fourth layer (or as the file says) attends, or those with heads of keys.
_DELTA = frozenset({"qwen3next", "qwen35", "qwen35moe"})
_CONVOLVING = frozenset({"lfm2", "lfm2moe"})
_KNOWN = _PLAIN | _WINDOWED.keys() | _RECURRENT | _DELTA | _CONVOLVING
# Of layers that only draft, these load no tensors but reserve a cache, until late in 2026; those
# above load the tensors and reserve none.
_DRAFTING = frozenset({"deepseek2", "glm4moe"})
_ATTENTION_INTERVAL = 4
# of gemma3n, whatever the file says
_LAYERS_CACHED = 20
# a header may claim any number
_MOST_LAYERS = 1024


class Layer(Struct, frozen=True):
    """One layer: elements of keys and values a token, and of state a slot (f32).

    `window` is how many tokens it looks back at, None for all.
    """

    size_bytes: int
    keys: int = 0
    values: int = 0
    window: int | None = None
    state: int = 0


class Shape(Struct, frozen=True, eq=False):
    """A model as its memory needs see it; widths are elements a token. One object a file.

    `query` is the width of all heads, `feed` of the widest feed-forward part, of all `experts` that
    a token uses, `inner` of the recurrent part, which with `delta` has keys of its own, as many as
    `state_groups`, each as long as `state_size`; `tied` where the embedding is the output layer
    too. `latent` is how long a compressed key with its value is, 0 for none. `side` is the width of
    what all layers take in beside, from a table of `side_bytes`; `altered` has four states a token.
    """

    layers: tuple[Layer, ...]
    embedding_bytes: int
    output_bytes: int
    width: int
    heads: int
    query: int
    feed: int
    experts: int
    inner: int
    vocabulary: int
    tied: bool
    state_groups: int = 0
    state_size: int = 0
    latent: int = 0
    delta: bool = False
    side: int = 0
    side_bytes: int = 0
    altered: bool = False


@lru_cache(maxsize=256)
def of(file: ModelFile) -> tuple[Shape | None, tuple[str, ...]]:
    """The shape of a model, or what is missing to tell it, as clauses."""
    name = file.architecture
    if name is None:
        return None, ("the model's architecture",)
    if name not in _KNOWN:
        return None, (f"how a model of architecture {name} uses memory",)
    drafts = file.draft_layers or 0
    odd: object = drafts and name not in _DRAFTING | _DELTA
    odd = odd or (file.key_length_latent and name != "deepseek2")
    odd = odd or (file.window_tokens and name in _CONVOLVING)
    if odd or (file.shared_kv_layers and name not in _BORROWING):
        return None, (f"how this kind of {name} caches",)
    missing = [
        text
        for text, value in (
            ("the number of layers", file.layers),
            ("the width of the embedding", file.embedding_length),
            ("the size of the vocabulary", file.vocabulary),
            ("the sizes of the tensors", file.layer_bytes),
        )
        if not value
    ]
    count = file.layers or 0
    # a file may come without the tensors of layers that only draft
    absent = count - len(file.layer_bytes or ())
    if not missing and not (
        0 < count <= _MOST_LAYERS and 0 <= drafts <= count and absent in {0, drafts}
    ):
        missing.append("the sizes of all layers")
    if missing:
        return None, tuple(missing)
    attends = name not in _STATE_ONLY
    heads = _each(file.heads, count) if attends else (0,) * count
    heads_kv = _each(file.heads_kv, count) if attends else (0,) * count
    if attends and file.heads_kv is None:
        heads_kv = heads
    if attends and (not heads or not heads_kv):
        missing.append("the number of heads")
    if name in _RECURRENT | _DELTA and None in (
        file.state_kernel,
        file.state_inner,
        file.state_size,
    ):
        missing.append("the size of the recurrent state")
    if name in _CONVOLVING and not file.convolution_length:
        missing.append("the length of the convolution")
    if missing:
        return None, tuple(missing)
    return _shape(file, heads, heads_kv), ()


def _shape(file: ModelFile, heads: tuple[int, ...], heads_kv: tuple[int, ...]) -> Shape:
    width, name = file.embedding_length or 0, file.architecture or ""
    feeds = _each(file.feed_forward_length, len(heads)) or (0,) * len(heads)
    most_heads = max(heads)
    head = width // most_heads if most_heads else 0
    latent = bool(file.key_length_latent)
    output = file.output_bytes or 0
    return Shape(
        _layers(file, heads_kv, head),
        file.embedding_bytes or 0,
        (output or file.embedding_bytes or 0) + (file.other_bytes or 0),
        width,
        most_heads,
        most_heads * (file.key_length_latent or file.key_length or head),
        max(feeds) if not file.experts else _experts(file, feeds),
        (file.experts_used or 1) if file.experts else 0,
        (file.state_inner or 0) if name in _RECURRENT | _DELTA else 0,
        file.vocabulary or 0,
        not output,
        file.state_groups or 0,
        file.state_size or 0,
        (file.key_length or 0) if latent else 0,
        name in _DELTA,
        (file.side_embedding_length or 0) * len(heads),
        file.side_embedding_bytes or 0,
        name == "gemma3n",
    )


def _layers(file: ModelFile, heads_kv: tuple[int, ...], head: int) -> tuple[Layer, ...]:
    count, drafts = len(heads_kv), file.draft_layers or 0
    key, value = file.key_length or head, file.value_length or head
    state, recurrent = _state(file), _recurrent(file, heads_kv)
    sizes = (*(file.layer_bytes or ()), *(0,) * drafts)[:count]
    cached = count - (file.shared_kv_layers or 0)
    if file.architecture == "gemma3n":
        cached = _LAYERS_CACHED
    layers = []
    for place, (size, window) in enumerate(zip(sizes, _windows(file), strict=True)):
        heads = heads_kv[place]
        if place >= cached:
            layers.append(Layer(size, window=window))
            continue
        if recurrent[place]:
            layers.append(Layer(size, window=window, state=state))
            continue
        if place >= count - drafts:
            if file.architecture in _DELTA:
                layers.append(Layer(size))
                continue
            size = 0
        keys = heads * (key if window is None else file.key_length_window or key)
        values = heads * (value if window is None else file.value_length_window or value)
        # a compressed key has its value within it
        layers.append(Layer(size, keys, 0 if file.key_length_latent else values, window))
    return tuple(layers)


def _recurrent(file: ModelFile, heads_kv: tuple[int, ...]) -> tuple[bool, ...]:
    """Which layers keep a state and no cache."""
    count, drafts = len(heads_kv), file.draft_layers or 0
    if file.architecture not in _DELTA:
        return tuple(heads == 0 for heads in heads_kv)
    flags = file.recurrent_layers or ()
    if len(flags) == count:
        return tuple(map(bool, flags))
    every = file.attention_interval or _ATTENTION_INTERVAL
    return tuple(place < count - drafts and (place + 1) % every != 0 for place in range(count))


def _state(file: ModelFile) -> int:
    """Elements a slot of a layer that keeps a state."""
    if file.architecture in _CONVOLVING:
        return ((file.convolution_length or 1) - 1) * (file.embedding_length or 0)
    inner, size = file.state_inner or 0, file.state_size or 0
    channels = inner + 2 * (file.state_groups or 0) * size
    return ((file.state_kernel or 1) - 1) * channels + size * inner


def _experts(file: ModelFile, feeds: tuple[int, ...]) -> int:
    each = file.expert_feed_forward_length or max(feeds)
    dense = max(feeds) if file.dense_layers or file.architecture == "gemma4" else 0
    return max(dense, (file.experts_used or 1) * each)


def _windows(file: ModelFile) -> tuple[int | None, ...]:
    count = file.layers or 0
    period, first = _WINDOWED.get(file.architecture or "", (1, False))
    window = file.window_tokens or _WINDOW_BY_DEFAULT.get(file.architecture or "")
    if not window or period == 1:
        return (None,) * count
    pattern = file.window_pattern or ()
    if len(pattern) == count and count > 1:
        return tuple(window if flag else None for flag in pattern)
    if len(pattern) == 1 and pattern[0] > 0:
        period = pattern[0]
    full = 0 if first else period - 1
    return tuple(None if place % period == full else window for place in range(count))


def _each(values: tuple[int, ...] | None, count: int) -> tuple[int, ...]:
    """One value a layer; () where they are unknown or of another number."""
    if values is None or not values or min(values) < 0:
        return ()
    if len(values) == 1:
        return values * count
    return values if len(values) == count else ()
