"""llama-servers: who may ask them, what they tell, what their slots hold, who waits for them."""

from __future__ import annotations

import ipaddress
import posixpath
from collections import Counter
from collections.abc import Callable, Iterator

from llamatop.model.cluster import ClusterSnapshot, Severity, WorkerView
from llamatop.model.figures import bytes_short
from llamatop.model.observed import GpuSample

from .finding import Finding, Rule
from .fit import Fitter

QUEUE_SECONDS = 30.0
STUCK_SECONDS = 60.0
# Of a card: what a driver and other programs may want besides.
_MARGIN = 0.1


def keyless(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Anybody in the network may use the cards."""
    for worker in _llama_servers(snapshot):
        launch = worker.sample.launch
        if launch.api_key is False and launch.host is not None and _reachable(launch.host):
            yield Finding(
                "llama-server-open",
                "warning",
                worker.name,
                f"--host {launch.host}, no --api-key",
                "anybody in that network can use the cards, and read the slots",
                "--host 127.0.0.1 with a tunnel, or --api-key-file",
            )


def metrics(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """The counters of tokens and waiting requests are switched off."""
    for worker in _llama_servers(snapshot):
        sample = worker.sample
        if sample.metrics is False and sample.health in ("ok", "busy"):
            yield Finding(
                "llama-server-no-metrics",
                "warning",
                worker.name,
                "/metrics is off",
                "requests that wait are not seen, and short answers are missing from the rates",
                "add --metrics to its command line",
            )


def context(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A slot holds less than its share of the context that was asked for."""
    for worker in _llama_servers(snapshot):
        launch, slot = worker.sample.launch, _slot_context(worker)
        if not launch.context_tokens or slot is None:
            continue
        parallel = launch.parallel if launch.parallel and launch.parallel > 0 else 1
        share = launch.context_tokens // parallel
        if slot < share:
            asked = f"--ctx-size {launch.context_tokens}"
            asked += f" for --parallel {parallel} is {share} a slot" if parallel > 1 else ""
            yield Finding(
                "llama-server-context",
                "warning",
                worker.name,
                f"{asked}, but a slot has {slot} tokens",
                "longer prompts than that are refused, though the command line promises them",
                "look in its log (l) for why: the model was trained for less, or memory is short",
            )


def stuck(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Its HTTP side answers, its engine has not for long: decodes of some builds take seconds."""
    late = {node.name for node in snapshot.nodes if node.stale or not node.reachable}
    for worker in _llama_servers(snapshot):
        age = worker.age_seconds
        if worker.sample.health != "busy" or age is None or worker.node in late:
            continue
        if age >= STUCK_SECONDS:
            yield Finding(
                "llama-server-stuck",
                "warning",
                worker.name,
                f"/health answers, /slots has not for {age:.0f} s",
                "its engine hangs: requests there wait for ever, and nothing reports a fault",
                f"read its log (l); llamatop restart {worker.name} --now (r), which cuts them",
            )


def queue(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Requests wait and go on waiting."""
    for worker in _llama_servers(snapshot):
        waited = worker.queued_seconds
        if waited is not None and waited >= QUEUE_SECONDS:
            yield Finding(
                "llama-server-queue",
                "warning",
                worker.name,
                f"requests have waited there for {waited:.0f} s without a pause,"
                f" {worker.sample.requests_deferred} now",
                "whoever asks waits for somebody else's answer to end",
                "more slots or workers, or least_conn where siblings are idle",
            )


def more_slots(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Requests wait for a slot while there is memory for one more."""
    fitter = Fitter(snapshot)
    cards = {(gpu.node, gpu.sample.index): gpu.sample for gpu in snapshot.gpus}
    for worker in _llama_servers(snapshot):
        total = worker.slots_total
        if (worker.queued_seconds or 0.0) < QUEUE_SECONDS or not total or not worker.gpus:
            continue
        if worker.slots_busy != total:
            continue
        fit = fitter.fit(worker)
        room = fit.slots_fit() if fit is not None and fit.cards == 1 else None
        if room is None:
            free = _free(cards, worker, total)
            why = "one more slot, model and all, would take less than that"
        else:
            why = "the model with one more slot, its cache and all, would fit there"
            free = f"GPU {worker.gpus[0]} has room for {room}" if room > total else None
        if free is not None:
            yield Finding(
                "llama-server-more-slots",
                "info",
                worker.name,
                f"{total} of {total} slots busy, {worker.sample.requests_deferred} requests wait;"
                f" {free}",
                why,
                f"--parallel {total + 1}, and --ctx-size larger by one slot's share",
            )


def alike(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Workers of one upstream that answer differently: it is chance who answers."""
    groups: dict[str, list[WorkerView]] = {}
    for worker in _llama_servers(snapshot):
        if worker.membership in ("in", "mixed") and not worker.sample.router:
            for upstream in dict.fromkeys(upstream for upstream, _ in worker.members):
                groups.setdefault(upstream, []).append(worker)
    for upstream, workers in groups.items():
        yield from _odd(
            upstream,
            workers,
            "llama-server-models-differ",
            model_name,
            "serves",
            "which model answers a request is chance",
            "one model in an upstream; give the other an upstream of its own",
        )
        yield from _odd(
            upstream,
            workers,
            "llama-server-contexts-differ",
            lambda worker: f"{n} tokens a slot" if (n := _slot_context(worker)) else None,
            "has",
            "whether a long prompt is refused is chance",
            "the same --ctx-size and --parallel for all members of an upstream",
        )
        yield from _odd(
            upstream,
            workers,
            "llama-server-keys-differ",
            _key,
            "it",
            "whether a client without the key is refused (401) is chance",
            "the same --api-key or --api-key-file for all members of an upstream, or for none",
            "info",
        )


def _odd(
    upstream: str,
    workers: list[WorkerView],
    rule: str,
    told: Callable[[WorkerView], str | None],
    verb: str,
    why: str,
    mend: str,
    severity: Severity = "warning",
) -> Iterator[Finding]:
    """Those that differ from what most of them have; the first where none has a majority."""
    values = [(worker, value) for worker in workers if (value := told(worker)) is not None]
    counts = Counter(value for _, value in values)
    if len(counts) < 2:
        return
    usual, number = counts.most_common(1)[0]
    for worker, value in values:
        if value != usual:
            yield Finding(
                rule,
                severity,
                worker.name,
                f"{verb} {value}; {number} of {len(values)} in {upstream}: {usual}",
                why,
                mend,
            )


def _llama_servers(snapshot: ClusterSnapshot) -> Iterator[WorkerView]:
    return (worker for worker in snapshot.workers if worker.sample.engine == "llama-server")


def _reachable(host: str) -> bool:
    """Whether others than this machine can reach it; a name may be of either, a socket is not."""
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def model_name(worker: WorkerView) -> str | None:
    """The file's name, since aliases may be each worker's own; else what it calls the model."""
    path = worker.sample.launch.model
    name = posixpath.basename(path) if path else worker.sample.model
    return name.removesuffix(".gguf") if name else None


def _key(worker: WorkerView) -> str | None:
    asks = True if worker.sample.health == "unauthorized" else worker.sample.launch.api_key
    return None if asks is None else f"asks for {'an' if asks else 'no'} API key"


def _slot_context(worker: WorkerView) -> int | None:
    contexts = {slot.context_tokens for slot in worker.sample.slots or ()}
    return contexts.pop() if len(contexts) == 1 else None


def _free(
    cards: dict[tuple[str, int | None], GpuSample], worker: WorkerView, slots: int
) -> str | None:
    """What is free on its cards, where each surely has enough for one slot more."""
    gpus = worker.gpus or ()
    spare = [_spare(cards.get((worker.node, index)), worker, slots) for index in gpus]
    if not all(spare):
        return None
    pairs = zip(gpus, spare, strict=True)
    return ", ".join(f"{text} free on GPU {index}" for index, text in pairs)


def _spare(card: GpuSample | None, worker: WorkerView, slots: int) -> str | None:
    """What is free on the card, where that is surely enough for one slot more.

    Surely: as much as the process has there now for each slot, its share of the weights included.
    """
    if card is None or card.memory_total_bytes is None or card.memory_used_bytes is None:
        return None
    held = [(card.processes or {}).get(str(pid)) for pid in worker.sample.pids or ()]
    own = sum(one for one in held if one is not None)
    free = card.memory_total_bytes - card.memory_used_bytes
    if not own or free < own / slots + _MARGIN * card.memory_total_bytes:
        return None
    return bytes_short(free)


RULES: tuple[Rule, ...] = (keyless, metrics, context, stuck, queue, more_slots, alike)
