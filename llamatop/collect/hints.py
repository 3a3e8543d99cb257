"""What is probably not meant, though nothing is broken: models on the CPU, models that differ.

Everything is told from what the workers last said; sentences are made again only when that changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from llamatop.model.cluster import GpuView, WorkerView
from llamatop.model.figures import bytes_short
from llamatop.model.observed import LoadedModel

_MOST_NAMED = 3
# A few buffers stay in main memory even where every layer is on a card.
_SLIGHT = 0.02

Peer = tuple[str, tuple[str, ...], dict[str, str]]
_Offers = dict[str, dict[str, tuple[int, str]]]


class Hints(Struct):
    """Adds `hints` to workers; keeps what it said until what it was said of changes."""

    _peers: list[Peer] = field(default_factory=list)
    _differing: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add(
        self, workers: tuple[WorkerView, ...], gpus: Sequence[GpuView]
    ) -> tuple[WorkerView, ...]:
        """The workers with their hints; on a node without a card the CPU is what is meant."""
        if not any(worker.sample.engine == "ollama" for worker in workers):
            return workers
        with_cards = {gpu.node for gpu in gpus}
        peers = [
            (worker.name, tuple(upstream for upstream, _ in worker.members), worker.sample.present)
            for worker in workers
            if worker.sample.present is not None and worker.members
        ]
        # The digests are the same object until a node sends them anew: this compares quickly.
        if peers != self._peers:
            self._peers, self._differing = peers, _differing(peers)
        hinted = []
        for worker in workers:
            hints = self._differing.get(worker.name, ())
            spilled = _spilled(worker.sample.loaded or ()) if worker.node in with_cards else []
            if spilled:
                hints = (*map(_on_cpu, spilled), *hints)
            if hints:
                worker = replace(worker, hints=hints, spilled_percent=_share(spilled))
            hinted.append(worker)
        return tuple(hinted)


def _spilled(loaded: Sequence[LoadedModel]) -> list[LoadedModel]:
    """The models that the CPU computes in part at least, though nobody asked for that."""
    return [
        model
        for model in loaded
        if (model.cpu_bytes or 0) > _SLIGHT * (model.size_bytes or 0)
        and model.gpu_layers != "0"
        and not model.loading
    ]


def _share(models: Sequence[LoadedModel]) -> float | None:
    size = sum(model.size_bytes or 0 for model in models)
    return 100 * sum(model.cpu_bytes or 0 for model in models) / size if size else None


def _on_cpu(model: LoadedModel) -> str:
    if not model.gpu_bytes:
        return f"{model.name} runs on the CPU alone; its log (l) says which cards Ollama found"
    return (
        f"{_share([model]):.0f} % of {model.name} runs on the CPU"
        f" ({bytes_short(model.cpu_bytes)} of {bytes_short(model.size_bytes)}): too little card"
        " memory for it with this context, beside what else is loaded"
    )


def _differing(peers: Sequence[Peer]) -> dict[str, tuple[str, ...]]:
    """What each worker's disk lacks, or has in another version, of its siblings' in an upstream."""
    groups: dict[frozenset[str], _Offers] = {}
    for _, upstreams, _ in peers:
        served = frozenset(upstreams)
        if served not in groups:
            groups[served] = _offers(peer for peer in peers if not served.isdisjoint(peer[1]))
    found: dict[str, tuple[str, ...]] = {}
    for name, upstreams, present in peers:
        lacking: list[tuple[int, str, str]] = []
        differing: list[tuple[int, str, str]] = []
        for model, versions in groups[frozenset(upstreams)].items():
            mine = present.get(model)
            if mine is None:
                place, sibling = next(iter(versions.values()))
                lacking.append((place, model, sibling))
                continue
            for digest, (place, sibling) in versions.items() if mine else ():
                if digest and digest != mine:
                    differing.append((place, model, sibling))
                    break
        missing = {model: sibling for _, model, sibling in sorted(lacking)}
        other = {model: sibling for _, model, sibling in sorted(differing)}
        hints = []
        if missing:
            sibling = next(iter(missing.values()))
            hints.append(
                f"lacks {_listed(missing)}, which {sibling} has: requests for it fail here;"
                f" `ollama pull {next(iter(missing))}`"
            )
        if other:
            sibling = next(iter(other.values()))
            hints.append(f"has another version of {_listed(other)} than {sibling}")
        if hints:
            found[name] = tuple(hints)
    return found


def _offers(peers: Iterable[Peer]) -> _Offers:
    """The models of all of them: of each version who is the first to have it, and its place."""
    offers: _Offers = {}
    place = 0
    for name, _, present in peers:
        for model, digest in present.items():
            offers.setdefault(model, {}).setdefault(digest, (place, name))
            place += 1
    return offers


def _listed(models: dict[str, str]) -> str:
    names = list(models)
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
