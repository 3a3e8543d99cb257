"""What was seen: one node's snapshot, and the nouns it is made of.

The wire carries these same names: the probe's JSON document, with nulls left out, is a
`NodeSnapshot` without the fields that only this side knows (`name`, `received_at`, …); a slot is a
row of its figures (`engines.slots.FIELDS`).
Unknown is None everywhere. Times are Unix seconds; `_seconds` ending in `_at_seconds` are the
node's own monotonic clock and good for differences only.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from .balancing import Proxying
from .gguf import ModelFile
from .launch import Confines as Confines
from .launch import Launch as Launch
from .machine import GpuSample as GpuSample
from .machine import HostSample as HostSample
from .machine import Xid as Xid

Engine = Literal["llama-server", "ollama", "vllm"]
Health = Literal["ok", "loading", "busy", "unreachable", "unauthorized", "error"]
UnitKind = Literal["worker", "tunnel", "nginx"]


class UnitState(Struct, frozen=True):
    """A unit in systemd's own words; same as `systemctl show -p ActiveState,SubState,…`.

    `since` is Unix seconds of the last change of ActiveState; `restarts` is NRestarts.
    `restart_policy` is Restart=, `user` whom it runs as. `after_persistenced` is whether it waits
    for nvidia-persistenced, None where that unit is not there. Of a tunnel: `forwards` are those
    of its ExecStart as "L 127.0.0.1:37083" (or R, with the far side's port); `keepalive` is false
    where certainly nothing notices a dead connection.
    """

    name: str
    kind: UnitKind | None = None
    description: str | None = None
    load_state: str | None = None
    active_state: str | None = None
    sub_state: str | None = None
    result: str | None = None
    unit_file_state: str | None = None
    restarts: int | None = None
    since: float | None = None
    main_pid: int | None = None
    memory_bytes: int | None = None
    fragment_path: str | None = None
    need_daemon_reload: bool | None = None
    restart_policy: str | None = None
    user: str | None = None
    after_persistenced: bool | None = None
    forwards: tuple[str, ...] | None = None
    keepalive: bool | None = None


class Slot(Struct, frozen=True):
    """One slot of a llama-server; token counts are of the task it holds now.

    `prompt_tokens_processed` stays 0 until a prompt batch ends; `generated_tokens` is n_decoded;
    `remaining_tokens` is n_remain, None where there is no limit.
    """

    id: int
    busy: bool
    context_tokens: int | None = None
    task_id: int | None = None
    prompt_tokens: int | None = None
    prompt_tokens_processed: int | None = None
    prompt_tokens_cached: int | None = None
    generated_tokens: int | None = None
    remaining_tokens: int | None = None


class Glance(Struct, frozen=True):
    """The slots at a moment between two ticks, on the same clock as `read_at_seconds`."""

    at_seconds: float
    slots: tuple[Slot, ...]


class TokenCounters(Struct, frozen=True):
    """Lifetime token counters; a `_step` is the distance between two values it can print.

    A total moves only when a request finishes (vLLM: live). 1.0571e+06 has a step of 10.
    """

    generation_tokens_total: float | None = None
    generation_tokens_step: float | None = None
    prompt_tokens_total: float | None = None
    prompt_tokens_step: float | None = None
    live: bool | None = None


class LoadedModel(Struct, frozen=True):
    """One model that an Ollama holds in memory; same as `ollama ps`.

    `gpu_bytes` of `size_bytes` lie on cards, the rest is computed on the CPU. `context_tokens` is
    of one request. `expires_at_seconds` is when it is unloaded unless somebody asks for it, None
    where that is never (`forever`) or unknown. `parameters` and `quantization` are in Ollama's
    words. `slots` are those of the worker's slots that are this model's, None where that is not
    certain; `gpu_layers` is what its llama-server was told.
    """

    name: str
    size_bytes: int | None = None
    gpu_bytes: int | None = None
    context_tokens: int | None = None
    expires_at_seconds: float | None = None
    forever: bool | None = None
    loading: bool | None = None
    parameters: str | None = None
    quantization: str | None = None
    gpu_layers: str | None = None
    slots: tuple[int, ...] | None = None

    @property
    def cpu_bytes(self) -> int | None:
        """What of it is computed on the CPU."""
        if self.size_bytes is None or self.gpu_bytes is None:
            return None
        return max(0, self.size_bytes - self.gpu_bytes)


class EngineLoad(Struct, frozen=True):
    """One of a vLLM's data-parallel engines: its requests, and how full its KV cache is."""

    engine: str
    running: int | None = None
    waiting: int | None = None
    kv_cache_percent: float | None = None


class WorkerSample(Struct, frozen=True):
    """One inference process as its own endpoints and its unit tell.

    `read_at_seconds` is the node's monotonic clock between the reads that `slots` and `counters`
    come from; `glances` are reads of the slots since the tick before, made where requests fit
    between ticks. `identity` changes when the process restarts. `model_names` holds what a router
    or Ollama has loaded, or vLLM serves. `pids` are the process and its descendants. `metrics` is
    False where /metrics is switched off. `fault` is one sentence.

    Ollama: `loaded` is in memory, `present` on its disk (digests by name, read every few minutes).
    vLLM: `adapters` are those of `model_names` that are LoRA, `adapters_busy` run now; `engines`
    where there are several; `preemptions_recent` is of the last minute, `first_token_seconds` the
    mean of those that came in the last ten seconds.
    """

    unit: str
    engine: Engine | None = None
    url: str | None = None
    health: Health | None = None
    fault: str | None = None
    latency_seconds: float | None = None
    model: str | None = None
    model_names: tuple[str, ...] | None = None
    build: str | None = None
    sleeping: bool | None = None
    router: bool | None = None
    metrics: bool | None = None
    identity: str | None = None
    pids: tuple[int, ...] | None = None
    launch: Launch = field(default_factory=Launch)
    confines: Confines = field(default_factory=Confines)
    slots: tuple[Slot, ...] | None = None
    slots_total: int | None = None
    glances: tuple[Glance, ...] = ()
    context_tokens: int | None = None
    requests_processing: int | None = None
    requests_deferred: int | None = None
    kv_cache_percent: float | None = None
    counters: TokenCounters = field(default_factory=TokenCounters)
    read_at_seconds: float | None = None
    loaded: tuple[LoadedModel, ...] | None = None
    present: dict[str, str] | None = None
    adapters: tuple[str, ...] | None = None
    adapters_busy: tuple[str, ...] | None = None
    engines: tuple[EngineLoad, ...] = ()
    preemptions_total: int | None = None
    preemptions_recent: int | None = None
    first_token_seconds: float | None = None


class Tunnel(Struct, frozen=True):
    """One forward of a running ssh or autossh; addresses as host:port, as written in -L or -R.

    For "L" `listen` is on this node and `target` is as seen from `destination`; for "R" the
    other way round. Same as reading the process's command line.
    """

    direction: Literal["L", "R"]
    listen: str
    target: str
    destination: str
    pid: int | None = None
    unit: str | None = None


class UpstreamMember(Struct, frozen=True):
    """One `server` line of an upstream, as the file on disk has it; `line` counts from 1.

    `max_fails` is None where it is not written: nginx then takes 1.
    """

    upstream: str
    address: str
    down: bool
    weight: int | None = None
    backup: bool | None = None
    file: str | None = None
    line: int | None = None
    max_fails: int | None = None


class LeftDrained(Struct, frozen=True):
    """A member that a plan took out and left so when it was killed; `minutes` ago, by the node.

    `who` is as the plan's user wrote it, `what` the plan's action and targets. `auto`: auto-drain
    took it out, `times` within the last hour; `own` where its record can be trusted: it is root's,
    or of the user that the node is read as.
    """

    upstream: str
    address: str
    plan: str
    who: str = ""
    what: str = ""
    minutes: int = 0
    auto: bool = False
    own: bool = True
    times: int = 1


class BalancerSample(Struct, frozen=True):
    """nginx as the node shows it.

    `reload_pending` is true when a file is newer than the running workers; `config_valid` is what
    `nginx -t` last said, None until somebody asked, and false where a file does not parse;
    `draining_processes` counts old nginx workers that are shutting down; `draining_connections`
    counts their connections by member address.
    `shutdown_timeout` is `worker_shutdown_timeout` as written: longer streams are cut by a reload.
    `left` are the members that plans left drained, which others may have put back since.
    `listening` are the addresses on which any process there accepts connections, as seen by nginx.
    `proxying` is None where a file could not be read: what it sets is not known.
    """

    kind: Literal["nginx"] = "nginx"
    unit: str | None = None
    running: bool | None = None
    version: str | None = None
    config_valid: bool | None = None
    config_error: str | None = None
    reload_pending: bool | None = None
    members: tuple[UpstreamMember, ...] | None = None
    draining_processes: int | None = None
    draining_connections: dict[str, int] | None = None
    shutdown_timeout: str | None = None
    left: tuple[LeftDrained, ...] = ()
    listening: tuple[str, ...] | None = None
    proxying: Proxying | None = None
    fault: str | None = None


class NodeSnapshot(Struct, frozen=True):
    """Everything known of one node at one moment; parts that failed are None and named in faults.

    `received_at` is this side's monotonic clock at receipt, None before the first line;
    `next_try_at` on the same clock is when an attempt to reach the node begins, past once it has.
    `faults` and `ages` are keyed by part: node, host, gpus, units, workers, balancer, or
    `workers/UNIT`, `gpus/UUID`. An age is in seconds, on top of the snapshot's own. A mend is part
    of the fault's sentence. `models` are the files of the workers' models by `Launch.model`.
    `silent` is whether nothing at all came back at the last attempt: the machine may be down.
    """

    name: str
    reachable: bool = False
    silent: bool = False
    received_at: float | None = None
    next_try_at: float | None = None
    tick: int | None = None
    faults: dict[str, str] = field(default_factory=dict)
    ages: dict[str, float] = field(default_factory=dict)
    host: HostSample = field(default_factory=HostSample)
    gpus: dict[str, GpuSample] = field(default_factory=dict)
    units: dict[str, UnitState] = field(default_factory=dict)
    workers: dict[str, WorkerSample] = field(default_factory=dict)
    models: dict[str, ModelFile] = field(default_factory=dict)
    tunnels: tuple[Tunnel, ...] = ()
    balancer: BalancerSample | None = None
