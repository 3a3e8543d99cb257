"""Whether a worker's model would fit on one card, with how many slots, and what its split costs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

from llamatop.advise import memory, shapes
from llamatop.advise.memory import Demand, Needs, Part, Split
from llamatop.advise.shapes import Shape
from llamatop.model.cluster import ClusterSnapshot, GpuView, WorkerView
from llamatop.model.gguf import ModelFile
from llamatop.model.observed import GpuSample, Launch, WorkerSample

# what llama-server's own --fit leaves free on each card
MARGIN_BYTES = 2**30
_MOST_SLOTS = 256
_PAGE = 256
_MOST_PAGES = 4096
# so that what is reckoned once holds while a card's memory moves a little
_GRAIN_BYTES = 2**24
_BUILD = re.compile(r"b?(\d+)\b")
# builds before it keep logits of a whole batch; numbers this low are a packager's own
_FEW_OUTPUTS_BUILD = 9500
_FLASH_BUILD = 6325
_OWN_BUILDS = 1000
# builds before it cache values beside the compressed keys that have them within
_LATENT_BUILD = 7900


class Fit(Struct, frozen=True):
    """What a worker's model needs, and whether one card of its node has it; bytes.

    `missing` says what would have to be known, all else is None then. `needs` is the worker as it
    is, `alone` the same on one card. `overhead_bytes` a card is learnt from the running process:
    what it takes beyond the known parts; None where it does not run or its memory is hidden.
    `room_bytes` is what the roomiest of its cards, `card`, has for it. `on` are those it is on, in
    the order of `needs`, `held` what it takes there once it runs. `share_percent` is how busy each
    can be at most with one stream, None where all compute at once; `split_bytes` is what a split
    takes more than one card would, None where it is on one.
    """

    missing: tuple[str, ...] = ()
    shape: Shape | None = None
    demand: Demand | None = None
    needs: Needs | None = None
    alone: Part | None = None
    on: tuple[int, ...] = ()
    held: tuple[int | None, ...] = ()
    card: int | None = None
    card_bytes: int | None = None
    room_bytes: int | None = None
    overhead_bytes: int | None = None
    share_percent: float | None = None
    split_bytes: int | None = None

    @property
    def spare_bytes(self) -> int:
        """What is kept beside the known parts: the overhead where it is known, else 1 GiB."""
        return MARGIN_BYTES if self.overhead_bytes is None else self.overhead_bytes

    @property
    def cards(self) -> int:
        """On how many it is."""
        return len(self.on)

    def needed_on(self, card: int) -> tuple[int, int] | None:
        """What it takes on that card, and where it does not run what to spare; None if unknown."""
        if self.needs is None or card not in self.on:
            return None
        place = self.on.index(card)
        parts = self.needs.cards[place].total
        if not self.held:
            return parts, self.spare_bytes if parts else 0
        return self.held[place] or parts, 0

    @property
    def fits(self) -> bool | None:
        """Whether all of it, as it is asked for, fits on one card; None where that is unknown."""
        if self.alone is None or self.room_bytes is None:
            return None
        return self.alone.total + self.spare_bytes <= self.room_bytes

    def slots_fit(self) -> int | None:
        """How many slots of the present context, each with its own cache, one card would hold."""
        if self.demand is None:
            return None
        asked = replace(self.demand, unified=False)
        return self._most(asked, "slots", 1, _MOST_SLOTS)

    def context_fits(self) -> int | None:
        """How many tokens each of the present slots could have on one card."""
        if self.demand is None:
            return None
        return self._most(self.demand, "context_tokens", _PAGE, _MOST_PAGES)

    def _most(self, demand: Demand, field: str, step: int, most: int) -> int | None:
        if self.shape is None or self.room_bytes is None:
            return None
        room = self.room_bytes - self.spare_bytes
        return _largest(self.shape, demand, field, step, most, room // _GRAIN_BYTES * _GRAIN_BYTES)


@lru_cache(maxsize=1024)
def _largest(shape: Shape, demand: Demand, field: str, step: int, most: int, room: int) -> int:
    """The largest multiple of `step`, up to `most` of them, with which it fits; else 0."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        asked = replace(demand, **{field: step * middle})
        if asked.outputs is not None:
            asked = replace(asked, outputs=asked.slots)
        fits = memory.needs.__wrapped__(shape, asked).cards[0].total <= room
        low, high = (middle, high) if fits else (low, middle - 1)
    return step * low


class Fitter:
    """The fits of a snapshot's workers, each reckoned when it is asked for."""

    def __init__(self, snapshot: ClusterSnapshot) -> None:
        self._files = {node.name: node.snapshot.models for node in snapshot.nodes}
        self._cards: dict[str, list[GpuView]] = {}
        for gpu in snapshot.gpus:
            self._cards.setdefault(gpu.node, []).append(gpu)

    def file(self, worker: WorkerView) -> ModelFile | None:
        """The header of its model's file, None where it is not known of."""
        return self._files.get(worker.node, {}).get(worker.sample.launch.model or "")

    def fit(self, worker: WorkerView) -> Fit | None:
        """`fit` of a worker of the snapshot."""
        return fit(worker, self.file(worker), self._cards.get(worker.node, ()))

    def locked(self, worker: WorkerView) -> int | None:
        """Bytes of weights that lie in the host's memory, and stay there with --mlock.

        At least: what the process maps of the file for its cards may count as well. None where it
        is not known.
        """
        if worker.gpus == ():
            file = self.file(worker)
            return file.size_bytes if file is not None and file.fault is None else None
        found = self.fit(worker)
        return found.needs.host.weights if found is not None and found.needs is not None else None


def fit(worker: WorkerView, file: ModelFile | None, cards: Sequence[GpuView]) -> Fit | None:
    """The fit of a llama-server's model, `cards` being those of its node.

    None for other engines, routers, and where it computes on the CPU.
    """
    sample = worker.sample
    if sample.engine != "llama-server" or sample.router or worker.gpus == ():
        return None
    shape, missing = _shape(file)
    demand, unasked = asked(sample)
    on = _cards_of(worker, cards)
    split, unsplit = _split(sample.launch, on, shape)
    missing = (*missing, *unasked, *unsplit)
    if not on:
        missing = (*missing, "which cards it computes on")
    number = _build(sample.build)
    if shape is not None and shape.latent and number is not None and number < _LATENT_BUILD:
        missing = (*missing, f"how a build as old as b{number} caches compressed keys")
    if missing or shape is None or demand is None or split is None:
        return Fit(missing=missing)
    return _judge(worker, shape, demand, split, on)


def _judge(
    worker: WorkerView,
    shape: Shape,
    demand: Demand,
    split: Split,
    on: Sequence[GpuSample],
) -> Fit:
    needs = memory.needs(shape, demand, split)
    held = [0 if _stopped(worker) else _taken(card, worker.sample) for card in on]
    overhead, loaded = None, bool(worker.sample.pids) and worker.sample.health != "loading"
    if loaded:
        overheads = [
            own - part.total
            for own, part in zip(held, needs.cards, strict=True)
            if own is not None and part.total
        ]
        if overheads and min(overheads) < -0.05 * needs.on_cards.total / len(needs.cards):
            return Fit(
                missing=("how much of it lies on its cards: it takes less there than all of it",)
            )
        overhead = max(0, *overheads) if overheads else None
    alone = memory.needs(shape, demand).cards[0]
    rooms = [_room(card, own, part) for card, own, part in zip(on, held, needs.cards, strict=True)]
    best = max(range(len(on)), key=lambda place: rooms[place] or 0)
    found = Fit(
        shape=shape,
        demand=demand,
        needs=needs,
        alone=alone,
        on=tuple(card.index or 0 for card in on),
        held=tuple(held) if loaded else (),
        card=on[best].index,
        card_bytes=on[best].memory_total_bytes,
        room_bytes=rooms[best],
        overhead_bytes=overhead,
    )
    if len(on) > 1:
        rest = (overhead or 0) * (len(on) - 1)
        found = replace(
            found,
            share_percent=None if split.rows else 100.0 / len(on),
            split_bytes=max(0, needs.on_cards.total - alone.total + rest),
        )
    return found


def asked(sample: WorkerSample) -> tuple[Demand | None, tuple[str, ...]]:
    """What a worker was asked for, or what is missing to tell it."""
    launch = sample.launch
    slots = sample.slots_total or len(sample.slots or ()) or max(0, launch.parallel or 0)
    counted = (launch.parallel or 0) > 0
    unified = launch.kv_unified if launch.kv_unified is not None else not counted
    context = next((slot.context_tokens for slot in sample.slots or () if slot.context_tokens), 0)
    # it does not run, or does not answer: what it was started with
    whole = sample.context_tokens or max(0, launch.context_tokens or 0)
    if not context and whole and slots:
        context = whole // (1 if unified else slots)
    kind_k, kind_v = launch.cache_type_k or "f16", launch.cache_type_v or "f16"
    missing = []
    if launch.source is None:
        missing.append("how it was started")
    if not slots:
        missing.append("the number of its slots")
    if not context:
        missing.append("the context of its slots")
    missing += [
        f"how large a cache of {kind} is"
        for kind in dict.fromkeys((kind_k, kind_v))
        if kind not in memory.CACHE_TYPES
    ]
    missing += [f"what {flag} adds or moves" for flag in launch.extras or ()]
    if missing:
        return None, tuple(missing)
    number = _build(sample.build)
    few = number is None or number >= _FEW_OUTPUTS_BUILD
    flash = launch.flash_attention == "on"
    if launch.flash_attention in (None, "auto"):
        flash = number is None or number >= _FLASH_BUILD
    return Demand(
        slots,
        context,
        unified,
        kind_k,
        kind_v,
        launch.batch_tokens or 2048,
        launch.ubatch_tokens or 512,
        flash,
        bool(launch.window_full),
        slots if few else None,
    ), ()


def _shape(file: ModelFile | None) -> tuple[Shape | None, tuple[str, ...]]:
    if file is None:
        return None, ("the header of its model's file",)
    if file.fault is not None:
        return None, (file.fault,)
    if file.reading:
        return None, ("the header of its model's file, which is being read",)
    return shapes.of(file)


def _split(
    launch: Launch, on: Sequence[GpuSample], shape: Shape | None
) -> tuple[Split | None, tuple[str, ...]]:
    """How its layers are laid over `on`; by the cards' memory where it was not told."""
    if launch.split_mode == "tensor":
        return None, ("how --split-mode tensor lays out a model",)
    layers = (launch.gpu_layers or "").strip().lower()
    given: int | None = None
    if layers.lstrip("-").isdecimal() and len(layers) < 10:
        given = int(layers) if int(layers) >= 0 else None
    elif layers not in ("", "auto", "all"):
        return None, ("how many layers lie on its cards",)
    portions = tuple(float(card.memory_total_bytes or 0) for card in on)
    if launch.tensor_split and len(on) > 1:
        parts = shares(launch.tensor_split)
        if parts is None or len(parts) < len(on) or not sum(parts[: len(on)]):
            return None, ("what its --tensor-split gives each card",)
        portions = parts[: len(on)]
    if not all(portions) and not launch.tensor_split:
        portions = (1.0,) * len(on)
    rows = launch.split_mode == "row"
    main = launch.main_gpu or 0
    if not 0 <= main < max(1, len(on)):
        return None, ("which card its --main-gpu is",)
    return Split(portions, given, rows, main, launch.kv_offload is False), ()


def shares(value: str) -> tuple[float, ...] | None:
    """What --tensor-split gives each card; None where it is no list of numbers."""
    try:
        found = tuple(float(part) for part in re.split(r"[,/]", value) if part.strip())
    except ValueError:
        return None
    return found if all(0 <= share < 1e9 for share in found) else None


def _cards_of(worker: WorkerView, cards: Sequence[GpuView]) -> list[GpuSample]:
    on = worker.gpus or ()
    found = [card.sample for card in cards if card.sample.index in on]
    # the process counts its cards in the order in which they are made visible to it
    order = (worker.sample.launch.cuda_visible_devices or "").replace(" ", "").split(",")
    if len(order) == len(found) and {str(card.index) for card in found} == set(order):
        found.sort(key=lambda card: order.index(str(card.index)))
    return found


def _stopped(worker: WorkerView) -> bool:
    """Whether it certainly has no process; a running one's may be hidden."""
    unit = worker.unit
    down = unit.active_state in ("inactive", "failed")
    return not worker.sample.pids and (down or (unit.sub_state or "").startswith("auto-restart"))


def _taken(card: GpuSample, sample: WorkerSample) -> int | None:
    """What the worker's processes take on a card; None where the driver hides it."""
    if card.processes is None:
        return None
    own = [card.processes[str(pid)] for pid in sample.pids or () if str(pid) in card.processes]
    known = [size for size in own if size]
    return sum(known) if known and len(known) == len(own) else None


def _room(card: GpuSample, own: int | None, part: Part) -> int | None:
    """What a card has for the worker: all that nobody else takes."""
    if card.memory_total_bytes is None or card.memory_used_bytes is None:
        return None
    others = card.memory_used_bytes - (part.total if own is None else own)
    return card.memory_total_bytes - max(0, others)


def _build(build: str | None) -> int | None:
    """The build's number where it is llama.cpp's own counting."""
    match = _BUILD.match(build or "")
    number = int(match.group(1)) if match else 0
    return number if number >= _OWN_BUILDS else None
