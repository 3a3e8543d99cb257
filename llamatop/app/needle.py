"""What the filter's words mean: `state:busy node:rack3 70b`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llamatop.app.nodes import NodeRow
from llamatop.app.render.gpus import hot
from llamatop.app.render.state import FAULT, FINE
from llamatop.app.rows import Row

HELP = (
    ("word", "in the node, name, model, state or member; letters may be skipped"),
    ("state:", "fault busy idle queued loading stopped stale hot lost draining …"),
    ("node:", "part of the node's name"),
    ("model:", "part of the model's name"),
    ("engine:", "llama-server, ollama or vllm"),
)


def select(listed: Sequence[Row], needle: str) -> list[Row]:
    """The rows that every word of `needle` is for.

    A plain word is looked for as it stands; where no row has it, with letters left out.
    """
    kept = list(listed)
    for word in needle.lower().split():
        field, colon, wanted = word.partition(":")
        read = _FIELDS.get(field) if colon else None
        if read is not None:
            kept = [row for row in kept if any(wanted in value.lower() for value in read(row))]
            continue
        texts = [_words(row) for row in kept]
        whole = [row for row, text in zip(kept, texts, strict=True) if word in text]
        kept = whole or [
            row
            for row, text in zip(kept, texts, strict=True)
            if any(_subsequence(word, part) for part in text.split())
        ]
    return kept


def select_empty(nodes: Sequence[NodeRow], needle: str) -> list[NodeRow]:
    """The nodes without a single worker or unit that the words are for, as silent ones are."""
    words = needle.lower().split()
    return [node for node in nodes if not node.rows and all(_means(word, node) for word in words)]


def _means(word: str, node: NodeRow) -> bool:
    field, colon, wanted = word.partition(":")
    states = (node.state.word, "fault" if node.state.rank == FAULT else "")
    if colon and field in _FIELDS:
        values = {"node": (node.node,), "state": states}.get(field, ())
        return any(wanted in value for value in values)
    return word in f"{node.node} {node.state.word}".lower()


def _subsequence(needle: str, word: str) -> bool:
    letters = iter(word)
    return all(letter in letters for letter in needle)


def _words(row: Row) -> str:
    worker = row.worker
    model = worker.sample.model if worker else None
    membership = worker.membership if worker else None
    return f"{row.name} {model or ''} {row.state.word} {membership or ''}".lower()


def _states(row: Row) -> list[str]:
    found = [row.state.word]
    worker = row.worker
    cards = row.cards
    lost = any(gpu.sample.fault for gpu in cards)
    if row.stale_seconds is not None:
        found.append("stale")
    if row.state.rank == FAULT or row.stale_seconds is not None or lost:
        found.append("fault")
    if worker is None:
        return found
    if worker.membership is not None:
        found.append(worker.membership)
    if worker.slots_busy:
        found.append("busy")
    elif worker.slots_busy == 0 and row.state.rank == FINE:
        found.append("idle")
    if worker.sample.requests_deferred:
        found.append("queued")
    if lost:
        found.append("lost")
    if any(hot(gpu) for gpu in cards):
        found.append("hot")
    return found


def _models(row: Row) -> list[str]:
    sample = row.worker.sample if row.worker else None
    if sample is None:
        return []
    return [*filter(None, [sample.model]), *(sample.model_names or ())]


def _engines(row: Row) -> list[str]:
    return [row.worker.sample.engine or ""] if row.worker else [row.unit.kind or ""]


_FIELDS: dict[str, Callable[[Row], list[str]]] = {
    "state": _states,
    "node": lambda row: [row.node],
    "model": _models,
    "engine": _engines,
}
