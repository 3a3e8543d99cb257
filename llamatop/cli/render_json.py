"""A snapshot as the JSON that scripts rely on."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

from llamatop.advise.fit import Fitter
from llamatop.cli import render_fit
from llamatop.model.cluster import ClusterSnapshot, GpuView, NodeView, WorkerView
from llamatop.model.observed import LoadedModel


def to_line(snapshot: ClusterSnapshot, indent: int | None = None) -> str:
    """The object of `status --json`; on one line without `indent`."""
    separators = (",", ":") if indent is None else None
    return (
        json.dumps(
            to_object(snapshot),
            indent=indent,
            separators=separators,
            ensure_ascii=False,
            allow_nan=False,
        )
        .encode("utf-8", "replace")
        .decode()
    )


def to_object(snapshot: ClusterSnapshot) -> dict[str, object]:
    """The same as plain objects; unknown is None, times are RFC 3339 with milliseconds."""
    totals = snapshot.totals
    workers: dict[str, list[WorkerView]] = {}
    gpus: dict[str, list[GpuView]] = {}
    for worker in snapshot.workers:
        workers.setdefault(worker.node, []).append(worker)
    for gpu in snapshot.gpus:
        gpus.setdefault(gpu.node, []).append(gpu)
    fitter = Fitter(snapshot)
    return {
        "cluster": snapshot.cluster.name,
        "taken_at": moment(snapshot.taken_at),
        "healthy": snapshot.healthy,
        "totals": {
            "generation_tokens_per_second": _rate(totals.generation_tokens_per_second),
            "prompt_tokens_per_second": _rate(totals.prompt_tokens_per_second),
            "slots_busy": totals.slots_busy,
            "slots_total": totals.slots_total,
            "requests_deferred": totals.requests_deferred,
        },
        "nodes": [
            _node(snapshot, node, gpus.get(node.name, []), workers.get(node.name, []), fitter)
            for node in snapshot.nodes
        ],
        "balancer": _balancer(snapshot),
        "events": [
            {
                "at": moment(event.at),
                "severity": event.severity,
                "node": event.node,
                "worker": event.worker,
                "text": event.text,
            }
            for event in snapshot.events
        ],
    }


def moment(at: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, like 2026-11-21T02:00:00.000Z."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def _node(
    snapshot: ClusterSnapshot,
    node: NodeView,
    gpus: list[GpuView],
    workers: list[WorkerView],
    fitter: Fitter,
) -> dict[str, object]:
    host = node.snapshot.host
    has_unit = snapshot.cluster.node(node.name).ssh is not None
    return {
        "name": node.name,
        "reachable": node.reachable,
        "age_seconds": _rounded(node.age_seconds, 3),
        "fault": node.fault,
        "next_try_seconds": _rounded(node.next_try_seconds, 1),
        "host": {
            "cpu_percent": _rounded(host.cpu_percent, 1),
            "memory_used_bytes": host.memory_used_bytes,
            "memory_total_bytes": host.memory_total_bytes,
            "load1": host.load1,
        },
        "gpus": [_gpu(gpu) for gpu in gpus],
        "workers": [
            {**_worker(worker, has_unit), "fit": render_fit.to_object(fitter.fit(worker))}
            for worker in workers
        ],
    }


def _gpu(gpu: GpuView) -> dict[str, object]:
    sample = gpu.sample
    return {
        "index": sample.index,
        "uuid": sample.uuid,
        "name": sample.name,
        "utilization_percent": sample.utilization_percent,
        "memory_used_bytes": sample.memory_used_bytes,
        "memory_total_bytes": sample.memory_total_bytes,
        "power_watts": sample.power_watts,
        "power_limit_watts": sample.power_limit_watts,
        "temperature_celsius": sample.temperature_celsius,
        "workers": list(gpu.workers),
        "fault": sample.fault,
    }


def _worker(worker: WorkerView, has_unit: bool) -> dict[str, object]:
    unit, sample = worker.unit, worker.sample
    return {
        "name": worker.name,
        "unit": unit.name if has_unit else None,
        "engine": sample.engine,
        "url": sample.url,
        "unit_state": unit.active_state,
        "unit_sub_state": unit.sub_state,
        "restarts": unit.restarts,
        "main_pid": unit.main_pid or None,
        "since": _since(unit.since),
        "health": sample.health,
        "model": sample.model,
        "gpus": None if worker.gpus is None else list(worker.gpus),
        "topology": worker.topology,
        "slots_total": worker.slots_total,
        "slots_busy": worker.slots_busy,
        "context_tokens": sample.context_tokens,
        "requests_deferred": sample.requests_deferred,
        "generation_tokens_per_second": _rate(worker.generation_tokens_per_second),
        "prompt_tokens_per_second": _rate(worker.prompt_tokens_per_second),
        "generation_tokens_total": _whole(worker.generation_tokens_total),
        "membership": worker.membership,
        "fault": worker.fault,
        "hints": list(worker.hints),
        **_inference(worker),
    }


def _inference(worker: WorkerView) -> dict[str, object]:
    """What only Ollama or only vLLM tells; null for the others."""
    sample = worker.sample
    loaded, present = sample.loaded, sample.present
    return {
        "loaded_models": None if loaded is None else [_loaded(worker, one) for one in loaded],
        "models_on_disk": None if present is None else sorted(present),
        "kv_cache_percent": sample.kv_cache_percent,
        "first_token_seconds": _rounded(sample.first_token_seconds, 3),
        "preemptions_total": sample.preemptions_total,
        "lora_adapters": None if sample.adapters is None else list(sample.adapters),
        "engines": [
            {
                "engine": one.engine,
                "requests_running": one.running,
                "requests_deferred": one.waiting,
                "kv_cache_percent": one.kv_cache_percent,
            }
            for one in sample.engines
        ],
    }


def _loaded(worker: WorkerView, model: LoadedModel) -> dict[str, object]:
    busy = {slot.id for slot in worker.sample.slots or () if slot.busy}
    return {
        "name": model.name,
        "size_bytes": model.size_bytes,
        "gpu_bytes": model.gpu_bytes,
        "cpu_bytes": model.cpu_bytes,
        "context_tokens": model.context_tokens,
        "expires_in_seconds": _rounded(worker.expires_in_seconds(model), 1),
        "loading": bool(model.loading),
        "slots_total": None if model.slots is None else len(model.slots),
        "slots_busy": None if model.slots is None else len(busy & set(model.slots)),
    }


def _balancer(snapshot: ClusterSnapshot) -> dict[str, object] | None:
    declared = snapshot.cluster.balancer
    if declared is None:
        return None
    sample = snapshot.balancer
    return {
        "node": declared.node,
        "kind": declared.kind,
        "upstream": declared.upstream,
        "config_valid": sample.config_valid if sample else None,
        "reload_pending": sample.reload_pending if sample else None,
        "members": [
            {
                "upstream": member.upstream,
                "address": member.address,
                "state": member.state,
                "worker": member.worker,
                "weight": member.weight,
            }
            for member in snapshot.members
        ],
    }


def _rate(value: float | None) -> float | None:
    return _rounded(value, 2)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, digits)


def _whole(value: float | None) -> int | float | None:
    return int(value) if value is not None and float(value).is_integer() else value


def _since(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    try:
        return moment(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return None
