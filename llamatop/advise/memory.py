"""What llama-server allocates for a model: weights, cache and compute buffers, by its own rules.

The arithmetic follows llama.cpp's (llama-kv-cache, llama-memory-recurrent, the reserved graphs);
compute buffers are the largest set of tensors that live at once in one layer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

from msgspec import Struct
from msgspec.structs import replace

from llamatop.advise.shapes import Shape

_PAD = 256
_FLOAT = 4
# bytes a block of so many elements
CACHE_TYPES = {
    "f32": (4, 1),
    "f16": (2, 1),
    "bf16": (2, 1),
    "q8_0": (34, 32),
    "q5_1": (24, 32),
    "q5_0": (22, 32),
    "q4_1": (20, 32),
    "q4_0": (18, 32),
    "iq4_nl": (18, 32),
}
# how many batches are under way where the layers of one batch lie on several cards
_PIPELINE = 4


class Demand(Struct, frozen=True):
    """What a llama-server is asked for; `context_tokens` is of one slot.

    `outputs` is for how many tokens of a batch it keeps logits at most, None for all of them.
    """

    slots: int
    context_tokens: int
    unified: bool = False
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    batch_tokens: int = 2048
    ubatch_tokens: int = 512
    flash_attention: bool = True
    window_full: bool = False
    outputs: int | None = None

    @property
    def cells(self) -> int:
        """Of the cache, for each of its streams."""
        return _padded(self.context_tokens)

    @property
    def streams(self) -> int:
        """One for all slots, or one a slot."""
        return 1 if self.unified else self.slots

    @property
    def tokens(self) -> int:
        """Computed at once."""
        whole = self.cells * self.streams
        return max(1, min(self.ubatch_tokens, self.batch_tokens, whole))

    def window_cells(self, window: int) -> int:
        """Of the cache of a layer that looks back at `window` tokens."""
        if self.window_full:
            return self.cells
        several = self.slots if self.unified else 1
        return _padded(min(self.cells, window * several + self.tokens))


class Part(Struct, frozen=True):
    """Bytes in one place: on one card, or in the host's memory."""

    weights: int = 0
    cache: int = 0
    compute: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.compute


class Split(Struct, frozen=True):
    """How a model is laid over cards: a share for each, and how many layers lie there at all.

    `gpu_layers` counts the output layer as one, None for all of them. With `rows` every tensor is
    cut over all cards, and `main` is the one that has the cache and computes what is left.
    """

    shares: tuple[float, ...] = (1.0,)
    gpu_layers: int | None = None
    rows: bool = False
    main: int = 0
    cache_on_host: bool = False


class Needs(Struct, frozen=True):
    """What a model takes on each card and of the host."""

    cards: tuple[Part, ...]
    host: Part

    @property
    def on_cards(self) -> Part:
        """The cards' sum."""
        return Part(
            sum(card.weights for card in self.cards),
            sum(card.cache for card in self.cards),
            sum(card.compute for card in self.cards),
        )


CPU = Split((), 0)
ONE_CARD = Split()


@lru_cache(maxsize=512)
def needs(shape: Shape, demand: Demand, split: Split = ONE_CARD) -> Needs:
    """The buffers of a llama-server that is started so."""
    count = len(shape.layers)
    wanted = count + 1 if split.gpu_layers is None else min(split.gpu_layers, count + 1)
    places = _places(count, wanted if split.shares else 0, split.shares)
    cards = [Part() for _ in split.shares]
    host = Part(weights=shape.embedding_bytes + shape.side_bytes)
    # without flash attention values lie across, as wide in each layer as in the widest
    widest = 0 if demand.flash_attention else max(layer.values for layer in shape.layers)
    for layer, place in zip(shape.layers, places, strict=False):
        values = max(layer.values, widest if layer.values else 0)
        cache = _cached(demand, layer.keys, values, layer.window) + _FLOAT * (
            layer.state * demand.slots
        )
        kept = Part(cache=cache)
        if place is None:
            host = _sum(host, kept, layer.size_bytes)
            continue
        cards[place] = _sum(cards[place], Part(), layer.size_bytes)
        if split.cache_on_host:
            host = _sum(host, kept)
        else:
            keeper = split.main if split.rows else place
            cards[keeper] = _sum(cards[keeper], kept)
    output = places[-1]
    if output is None:
        # a tied output layer is the embedding, which is there already
        extra = shape.output_bytes - (shape.embedding_bytes if shape.tied else 0)
        host = _sum(host, Part(), extra)
    else:
        cards[output] = _sum(cards[output], Part(), shape.output_bytes)
    if split.rows:
        cards = _by_rows(cards, split.shares)
    logits = _FLOAT * shape.vocabulary * demand.slots
    if not cards:
        return Needs((), _sum(host, Part(compute=_compute(shape, demand) + logits)))
    piped = len(cards) > 1 and wanted > count and not split.rows and not split.cache_on_host
    copies = _PIPELINE if piped else 1
    inputs = _masks(shape, demand)
    taken = _FLOAT * demand.tokens * shape.width
    working = _compute(shape, demand) - inputs + copies * inputs + (copies * taken if piped else 0)
    computing = (split.main,) if split.rows else range(len(cards))
    cards = [
        replace(card, compute=working) if card.weights and place in computing else card
        for place, card in enumerate(cards)
    ]
    own = copies * inputs + 2 * taken
    if wanted <= count:
        own = max(own, _compute(shape, demand))
    return Needs(tuple(cards), _sum(host, Part(compute=own + logits)))


def _places(count: int, wanted: int, shares: Sequence[float]) -> list[int | None]:
    """Where each layer lies, the output layer last; None is the host."""
    first = count + 1 - wanted
    whole = sum(shares) or 1.0
    ends = [end / whole for end in accumulate(shares)]
    last = len(ends) - 1
    return [
        None if number < first else min(last, bisect_right(ends, (number - first) / wanted))
        for number in range(count + 1)
    ]


def _by_rows(cards: list[Part], shares: Sequence[float]) -> list[Part]:
    weights, whole = sum(card.weights for card in cards), sum(shares) or 1.0
    return [
        replace(card, weights=int(weights * share / whole))
        for card, share in zip(cards, shares, strict=True)
    ]


def _sum(part: Part, other: Part, weights: int = 0) -> Part:
    return Part(
        part.weights + other.weights + weights,
        part.cache + other.cache,
        part.compute + other.compute,
    )


def _cached(demand: Demand, keys: int, values: int, window: int | None) -> int:
    cells = demand.cells if window is None else demand.window_cells(window)
    row = _row(demand.cache_type_k, keys) + _row(demand.cache_type_v, values)
    return row * cells * demand.streams


def _row(kind: str, elements: int) -> int:
    size, block = CACHE_TYPES[kind]
    return elements * size // block


def _masks(shape: Shape, demand: Demand) -> int:
    """The attention masks of a batch: one for the layers that see all, one for windows."""
    windows = {layer.window for layer in shape.layers if layer.keys}
    cells = sum(demand.cells if one is None else demand.window_cells(one) for one in windows)
    return cells * demand.tokens * (2 if demand.flash_attention else _FLOAT)


def _compute(shape: Shape, demand: Demand) -> int:
    """The compute buffer where one device does everything."""
    tokens, width = demand.tokens, shape.width
    keys = max((layer.keys + layer.values for layer in shape.layers), default=0)
    attending = tokens * (3 * width + 2 * shape.query + keys)
    if shape.latent:
        # queries are as long as the compressed keys, once before and once after their turned part
        attending = tokens * (4 * width + shape.query + 2 * shape.heads * shape.latent)
    if keys and not demand.flash_attention:
        attending += tokens * shape.heads * max(_seen(shape, demand))
    # every expert gives a whole width, and these are weighed before they are added up
    feeding = tokens * max(4 * width + 3 * shape.feed, 2 * shape.experts * width)
    outputs = tokens if demand.outputs is None else min(tokens, demand.outputs)
    telling = outputs * (shape.vocabulary + 2 * width)
    altering = tokens * 17 * width if shape.altered else 0
    most = max(
        attending, feeding if shape.feed else 0, _recurring(shape, demand), altering, telling
    )
    if shape.side:
        # made ready for all layers first, and there beside each
        most = max(most + tokens * 2 * shape.side, tokens * (4 * shape.side + 2 * width))
    return _FLOAT * most + _masks(shape, demand)


def _recurring(shape: Shape, demand: Demand) -> int:
    """Elements of the largest set in a layer that keeps a state."""
    tokens, width, inner = demand.tokens, shape.width, shape.inner
    state = max(layer.state for layer in shape.layers)
    if not state:
        return 0
    if shape.delta:
        keys = 2 * shape.state_groups * shape.state_size
        mixing = 3 * (width + keys + inner)
        working = 3 * width + 2 * keys + 3 * inner
        return max(tokens * mixing, tokens * working + 5 * state * demand.slots // 2)
    if not inner:
        return tokens * 7 * width
    return tokens * (width + 6 * inner) + state * demand.slots


def _seen(shape: Shape, demand: Demand) -> list[int]:
    return [
        demand.cells if layer.window is None else demand.window_cells(layer.window)
        for layer in shape.layers
        if layer.keys
    ]


def _padded(tokens: int) -> int:
    return tokens + -tokens % _PAD
