"""Clusters built from model objects: one that is well, one that is not, one that is hostile."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from llamatop.collect.health import totals
from llamatop.model.cluster import (
    ClusterSnapshot,
    Event,
    GpuView,
    MemberView,
    NodeView,
    WorkerView,
)
from llamatop.model.declared import Balancer, Cluster, Node
from llamatop.model.observed import (
    BalancerSample,
    GpuSample,
    HostSample,
    NodeSnapshot,
    Slot,
    UnitState,
    WorkerSample,
)

NOW = datetime(2026, 11, 21, 2, 14, 7, tzinfo=UTC)
GIB = 2**30


def wave(tick: int, place: int, low: float, high: float) -> float:
    """A value that moves smoothly and the same way every time."""
    turn = math.sin(tick / (7 + place)) * 0.6 + math.sin(tick / 2.3 + place * 2) * 0.4
    return low + (high - low) * (turn + 1) / 2


def card(node: str, index: int, tick: int = 0, busy: tuple[float, float] = (92, 99)) -> GpuSample:
    """A Tesla P40, `busy` its lowest and highest utilization."""
    load = wave(tick, index + len(node), *busy)
    return GpuSample(
        uuid=f"GPU-{node}-{index}",
        index=index,
        name="Tesla P40",
        source="nvml",
        utilization_percent=round(load),
        memory_used_bytes=int((18.2 + index) * GIB),
        memory_total_bytes=24 * GIB,
        power_watts=50 + load * 1.5,
        power_limit_watts=250.0,
        temperature_celsius=45 + load / 4,
        throttle=(),
    )


def slot(place: int, busy: bool, tick: int = 0, prompt: bool = False) -> Slot:
    """One slot with 2048 tokens of context."""
    if not busy:
        return Slot(id=place, busy=False, context_tokens=2048)
    return Slot(
        id=place,
        busy=True,
        context_tokens=2048,
        task_id=100 + place,
        prompt_tokens=640 + 31 * place,
        prompt_tokens_processed=0 if prompt else 640,
        generated_tokens=0 if prompt else 40 + tick % 300,
        remaining_tokens=None if prompt else 216 - tick % 200,
    )


def worker(
    node: str,
    short: str,
    gpus: tuple[int, ...],
    *,
    tick: int = 0,
    rate: float = 54.1,
    busy: int = 2,
    total: int = 2,
    model: str = "qwen3-8b-q4_k_m.gguf",
    **changes: object,
) -> WorkerView:
    """A llama-server that serves; `changes` are fields of WorkerView."""
    unit = f"llama-server-{short}.service"
    slots = tuple(slot(place, place < busy, tick, place == 1) for place in range(total))
    view = WorkerView(
        name=f"{node}/{short}",
        node=node,
        unit=UnitState(
            name=unit,
            kind="worker",
            active_state="active",
            sub_state="running",
            load_state="loaded",
            result="success",
            unit_file_state="enabled",
            restarts=0,
            since=(NOW - timedelta(hours=2, minutes=7)).timestamp(),
            main_pid=159,
        ),
        sample=WorkerSample(
            unit=unit,
            engine="llama-server",
            url=f"http://127.0.0.1:3708{gpus[0] if gpus else 9}",
            health="ok",
            model=model,
            build="b9125-dded58b45",
            metrics=True,
            slots=slots,
            slots_total=total,
            context_tokens=2048 * total,
            requests_deferred=0,
        ),
        gpus=gpus,
        gpus_source="nvml",
        topology="per-gpu" if len(gpus) == 1 else "layer-split",
        membership="in",
        members=(("llama_cluster", f"127.0.0.1:3708{gpus[0] if gpus else 9}"),),
        generation_tokens_per_second=max(0.0, wave(tick, len(short), rate * 0.85, rate * 1.1)),
        prompt_tokens_per_second=max(0.0, wave(tick, 5, -rate * 10, rate * 14)),
        generation_tokens_total=123456.0 + tick * rate,
        slots_busy=busy,
        slots_total=total,
        context_used_tokens=1024 * busy,
        age_seconds=0.4,
    )
    return replace(view, **changes)  # type: ignore[arg-type]  # names come from the tests


def node(name: str, **changes: object) -> NodeView:
    """A node that answers."""
    snapshot = NodeSnapshot(
        name=name,
        reachable=True,
        host=HostSample(hostname=name, cpu_percent=12.0, load1=0.5),
        units={},
    )
    view = NodeView(name=name, snapshot=snapshot, reachable=True, age_seconds=0.4)
    return replace(view, **changes)  # type: ignore[arg-type]  # names come from the tests


def with_units(view: NodeView, *units: UnitState) -> NodeView:
    """The node with units beside its workers."""
    listed = {unit.name: unit for unit in units}
    return replace(view, snapshot=replace(view.snapshot, units=listed))


def unit(name: str, kind: str, description: str, **changes: object) -> UnitState:
    """A tunnel or nginx, running."""
    state = UnitState(
        name=name,
        kind=kind,  # type: ignore[arg-type]  # the tests say "tunnel" or "nginx"
        description=description,
        load_state="loaded",
        active_state="active",
        sub_state="running",
        restarts=0,
        since=(NOW - timedelta(days=3, hours=4)).timestamp(),
    )
    return replace(state, **changes)  # type: ignore[arg-type]  # names come from the tests


def event(seconds_ago: float, severity: str, text: str, name: str | None = None) -> Event:
    """An event of the last minutes; `name` is a worker where it has a slash, else a node."""
    is_worker = name is not None and "/" in name
    return Event(
        at=NOW - timedelta(seconds=seconds_ago),
        severity=severity,  # type: ignore[arg-type]  # the tests say one of the three
        text=text,
        node=name.partition("/")[0] if name else None,
        worker=name if is_worker else None,
    )


def assemble(
    nodes: tuple[NodeView, ...],
    gpus: tuple[GpuView, ...],
    workers: tuple[WorkerView, ...],
    events: tuple[Event, ...] = (),
    *,
    tick: int = 40,
    healthy: bool = True,
    name: str = "p40-2x2",
    balancer: BalancerSample | None = None,
) -> ClusterSnapshot:
    """A snapshot of these parts, its totals summed."""
    cluster = Cluster(
        name=name,
        nodes=tuple(Node(view.name, ssh=view.name) for view in nodes),
        balancer=Balancer(node=nodes[0].name, upstream="llama_cluster"),
    )
    return ClusterSnapshot(
        cluster=cluster,
        taken_at=NOW + timedelta(seconds=tick - 40),
        tick=tick,
        nodes=nodes,
        gpus=gpus,
        workers=workers,
        balancer_node=nodes[0].name,
        balancer=balancer or BalancerSample(running=True, config_valid=True, reload_pending=False),
        members=tuple(
            MemberView(upstream, address, view.membership or "absent", view.name, 1)
            for view in workers
            for upstream, address in view.members
        ),
        totals=totals(workers),
        events=events,
        healthy=healthy,
    )


def gpu(sample: GpuSample, node: str, *workers: str, mark: str | None = None) -> GpuView:
    """A card with the workers on it."""
    return GpuView(node, sample, workers, mark, 0.4)  # type: ignore[arg-type]  # a topology's word


def well(tick: int = 40) -> ClusterSnapshot:
    """Two nodes of two cards: one worker a card on node1, one split over both cards of node2."""
    workers = (
        worker("node1", "gpu0", (0,), tick=tick),
        worker("node1", "gpu1", (1,), tick=tick, rate=51.7, busy=1),
        worker(
            "node2",
            "big",
            (0, 1),
            tick=tick,
            rate=31.0,
            model="llama-3.3-70b-instruct-q4_k_m.gguf",
            busy=1,
            total=4,
            members=(("llama_70b", "127.0.0.1:37083"),),
        ),
    )
    gpus = (
        gpu(card("node1", 0, tick), "node1", "node1/gpu0"),
        gpu(card("node1", 1, tick), "node1", "node1/gpu1"),
        gpu(card("node2", 0, tick, (49, 53)), "node2", "node2/big", mark="layer-split"),
        gpu(card("node2", 1, tick, (47, 51)), "node2", "node2/big", mark="layer-split"),
    )
    events = (
        event(420, "info", "llamatop is looking at 2 nodes"),
        event(301, "warning", "temperature 84 °C", "node1"),
        event(188, "info", "drained by ops, then restarted", "node1/gpu1"),
        event(121, "info", "loaded its model in 14 s", "node1/gpu1"),
        event(95, "info", "is in the upstream again", "node1/gpu1"),
    )
    nodes = (
        with_units(node("node1"), unit("nginx.service", "nginx", "nginx reverse proxy")),
        with_units(node("node2"), unit("tunnel-node2.service", "tunnel", "autossh to node1")),
    )
    return assemble(nodes, gpus, workers, events, tick=tick)


def frail(tick: int = 40) -> ClusterSnapshot:
    """All is served, yet units would not come back, one is outdated, a tunnel is down."""
    base = well(tick)
    workers = [
        replace(worker, unit=replace(worker.unit, restart_policy="no")) for worker in base.workers
    ]
    first, second, third = workers
    changed = ("--ctx-size (runs with 8192, now 4096)",)
    workers = [
        replace(first, unit=replace(first.unit, unit_file_state="disabled")),
        replace(
            second,
            sample=replace(second.sample, launch=replace(second.sample.launch, outdated=changed)),
        ),
        replace(third, unit=replace(third.unit, after_persistenced=False)),
    ]
    tunnel = unit(
        "autossh-node2.service",
        "tunnel",
        "autossh to node2",
        active_state="failed",
        sub_state="failed",
        result="exit-code",
        forwards=("L 127.0.0.1:37080",),
    )
    nginx = unit("nginx.service", "nginx", "nginx reverse proxy")
    nodes = (with_units(base.nodes[0], nginx, tunnel), base.nodes[1])
    return replace(base, workers=tuple(workers), nodes=nodes)


def ill(tick: int = 40) -> ClusterSnapshot:
    """Faults of every kind: a silent node, a crash loop, a hot card, a lost one, unknown values."""
    base = well(tick)
    gpu0 = base.workers[0]
    crashing = replace(
        base.workers[1],
        unit=replace(
            base.workers[1].unit,
            active_state="activating",
            sub_state="auto-restart",
            restarts=17,
            result="exit-code",
        ),
        sample=WorkerSample(
            unit="llama-server-gpu1.service",
            engine="llama-server",
            health="unreachable",
            fault="it exits at once: CUDA error: out of memory; lower -ngl or --ctx-size",
        ),
        generation_tokens_per_second=None,
        prompt_tokens_per_second=None,
        slots_busy=None,
        slots_total=None,
        context_used_tokens=None,
    )
    loading = worker(
        "node3",
        "gpu0",
        (0,),
        busy=0,
        rate=0.0,
        membership="down",
        generation_tokens_per_second=None,
        prompt_tokens_per_second=None,
    )
    loading = replace(loading, sample=replace(loading.sample, health="loading", slots=None))
    stopped = worker("node3", "gpu1", (1,), busy=0, membership="in", slots_busy=None)
    stopped = replace(
        stopped,
        unit=replace(stopped.unit, active_state="inactive", sub_state="dead"),
        sample=WorkerSample(unit=stopped.unit.name, engine="llama-server"),
        generation_tokens_per_second=None,
        prompt_tokens_per_second=None,
        slots_total=None,
        context_used_tokens=None,
    )
    unknown = worker(
        "edge",
        "edge",
        (),
        gpus_source=None,
        topology=None,
        membership=None,
        members=(),
        prompt_tokens_per_second=None,
    )
    unknown = replace(unknown, gpus=None, unit=UnitState(name="edge"))
    hot = replace(
        card("node1", 1, tick), temperature_celsius=91.0, throttle=("hardware_thermal_slowdown",)
    )
    lost = GpuSample(
        uuid="GPU-lost",
        index=1,
        name="Tesla P40",
        fault="GPU is lost (NVML error 15); reboot node3 or reseat the card",
    )
    nodes = (
        base.nodes[0],
        replace(
            base.nodes[1],
            reachable=False,
            stale=True,
            age_seconds=14.2,
            fault="connection timed out to 10.0.0.12:22; is the machine on?",
            snapshot=replace(base.nodes[1].snapshot, silent=True),
        ),
        node("node3"),
        node("edge"),
    )
    gpus = (
        base.gpus[0],
        gpu(hot, "node1", "node1/gpu1"),
        replace(base.gpus[2], age_seconds=14.2),
        replace(base.gpus[3], age_seconds=14.2),
        gpu(card("node3", 0, tick, (0, 2)), "node3", "node3/gpu0"),
        gpu(lost, "node3"),
    )
    queued = replace(gpu0, sample=replace(gpu0.sample, requests_deferred=12))
    events = (
        *base.events,
        event(33, "error", "restarted 17 times in 4 minutes", "node1/gpu1"),
        event(14, "error", "connection lost", "node2"),
    )
    balancer = BalancerSample(running=True, config_valid=True, reload_pending=True)
    workers = (queued, crashing, base.workers[2], loading, stopped, unknown)
    return assemble(nodes, gpus, workers, events, tick=tick, healthy=False, balancer=balancer)


HOSTILE = "[bold red]x[/]\x1b[31m\x1b]0;pwned\x07\u202e\n\t'\"$(reboot)"


def hostile(tick: int = 40) -> ClusterSnapshot:
    """Every string from a node holds markup, escape sequences, controls and wide characters."""
    base = well(tick)
    bad = replace(
        base.workers[0],
        name=f"node1/{HOSTILE}",
        unit=replace(base.workers[0].unit, name=HOSTILE, description=HOSTILE),
        sample=replace(base.workers[0].sample, model=HOSTILE, fault=HOSTILE, url=HOSTILE),
    )
    wide = replace(
        base.workers[1],
        name="node1/模型服务器",
        sample=replace(base.workers[1].sample, model="大型语言模型-七十亿参数"),
    )
    card0 = replace(base.gpus[0].sample, name=HOSTILE)
    gpus = (gpu(card0, "node1", f"node1/{HOSTILE}"), *base.gpus[1:])
    events = (event(5, "error", HOSTILE, f"node1/{HOSTILE}"),)
    first, *others = base.nodes
    host = replace(first.snapshot.host or HostSample(), hostname=HOSTILE)
    first = replace(first, snapshot=replace(first.snapshot, host=host))
    workers = (bad, wide, base.workers[2])
    return assemble((first, *others), gpus, workers, events, tick=tick, name=HOSTILE)


def empty() -> ClusterSnapshot:
    """Before the first tick."""
    declared = well().cluster
    nodes = tuple(
        NodeView(
            name=each.name, snapshot=NodeSnapshot(each.name), reachable=False, age_seconds=None
        )
        for each in declared.nodes
    )
    return ClusterSnapshot(cluster=declared, taken_at=NOW, tick=0, nodes=nodes)


MODELS = (
    "qwen3-8b-q4_k_m.gguf",
    "llama-3.3-70b-instruct-q4_k_m.gguf",
    "gemma-3-27b-it-q5_k_m.gguf",
)


def fleet(nodes: int, cards: int, tick: int = 40, slots: int = 4) -> ClusterSnapshot:
    """Many nodes with a worker a card, three models, loads from idle to full; all is well."""
    workers, gpus, views = [], [], []
    for place in range(nodes):
        name = f"rack{place // 8}-node{place:02}"
        host = HostSample(
            hostname=name,
            cpu_count=64,
            cpu_percent=round(wave(tick, place, 4, 40), 1),
            memory_used_bytes=(90 + place) * GIB,
            memory_total_bytes=512 * GIB,
            load1=round(wave(tick, place, 1, 20), 1),
            uptime_seconds=3600.0 * (50 + place),
        )
        plain = node(name)
        views.append(replace(plain, snapshot=replace(plain.snapshot, host=host)))
        for index in range(cards):
            busy = max(0, round(wave(tick, place * 5 + index * 3, -2, slots + 0.4)))
            load = 100 * busy / slots
            view = worker(
                name,
                f"gpu{index}",
                (index,),
                tick=tick + place * 3 + index,
                rate=22.0 * busy,
                busy=busy,
                total=slots,
                model=MODELS[(place // 3) % 3],
                members=((f"llama_{(place // 3) % 3}", f"127.0.0.1:3708{index}"),),
            )
            workers.append(view)
            sample = card(name, index, tick + place, (max(0, load - 12), min(100, load)))
            gpus.append(gpu(sample, name, view.name))
    return assemble(
        tuple(views), tuple(gpus), tuple(workers), well(tick).events, tick=tick, name="fleet"
    )


def ill_fleet(nodes: int, cards: int, tick: int = 40) -> ClusterSnapshot:
    """The same with a fault of every kind: nodes silent, gone and not heard yet; cards; workers."""
    base = fleet(nodes, cards, tick)
    views, gpus, workers = list(base.nodes), list(base.gpus), list(base.workers)
    views[1] = replace(
        views[1],
        reachable=False,
        stale=True,
        age_seconds=14.2,
        fault="connection timed out",
        snapshot=replace(views[1].snapshot, silent=True),
    )
    views[1] = replace(views[1], next_try_seconds=11.0)
    views[2] = NodeView(
        name=views[2].name,
        snapshot=NodeSnapshot(views[2].name),
        reachable=False,
        age_seconds=None,
        stale=True,
        fault="connection refused; is sshd running?",
        next_try_seconds=6.4,
    )
    views[3] = replace(views[2], name=views[3].name, fault=None, next_try_seconds=None)
    lost, warm = 5 * cards, 6 * cards + 1
    gpus[lost] = replace(
        gpus[lost],
        sample=GpuSample(uuid="lost", index=0, fault="GPU is lost; reset or reboot the node"),
    )
    hot = replace(
        gpus[warm].sample, temperature_celsius=91.0, throttle=("hardware_thermal_slowdown",)
    )
    gpus[warm] = replace(gpus[warm], sample=hot)
    crashed = workers[7 * cards]
    workers[7 * cards] = replace(
        crashed,
        unit=replace(crashed.unit, active_state="activating", sub_state="auto-restart"),
        sample=replace(crashed.sample, health="unreachable", slots=None),
        generation_tokens_per_second=None,
        slots_busy=None,
    )
    queue = workers[8 * cards]
    sample = replace(queue.sample, requests_deferred=17)
    workers[8 * cards] = replace(queue, sample=sample)
    silent = {view.name for view in views[2:4]}
    return assemble(
        tuple(views),
        tuple(gpu for gpu in gpus if gpu.node not in silent),
        tuple(worker for worker in workers if worker.node not in silent),
        base.events,
        tick=tick,
        healthy=False,
        name="fleet",
    )


def joined(tick: int = 40) -> ClusterSnapshot:
    """A node of two sockets with two switches each, eight workers; one whose two cards share one.

    The first card's link is slow while busy, the last has fallen off the bus.
    """
    words = {(0, 1): "PIX", (2, 3): "PIX", (4, 5): "PIX", (6, 7): "PIX"}
    samples = []
    for index in range(8):
        links = {
            f"GPU-node1-{other}": words.get(
                (index, other), "NODE" if index // 4 == other // 4 else "SYS"
            )
            for other in range(index + 1, 8)
        }
        sample = replace(
            card("node1", index, tick),
            pcie_generation=1 if index == 0 else 3,
            pcie_width=16,
            pcie_generation_max=3,
            pcie_width_max=16,
            numa_node=index // 4,
            links=links,
        )
        samples.append(sample)
    samples[7] = replace(
        samples[7], utilization_percent=None, fault="GPU is lost; see `dmesg | grep -i xid`"
    )
    pair = tuple(
        replace(
            card("node2", index, tick, (49 - 2 * index, 53 - 2 * index)),
            pcie_generation=4,
            pcie_width=16,
            pcie_generation_max=4,
            pcie_width_max=16,
            links={"GPU-node2-1": "NV4"} if index == 0 else {},
        )
        for index in range(2)
    )
    workers = tuple(
        worker("node1", f"gpu{index}", (index,), tick=tick, rate=50.0 + index) for index in range(8)
    )
    big = worker("node2", "big", (0, 1), tick=tick, rate=31.0, busy=1, total=4)
    gpus = tuple(
        gpu(sample, "node1", f"node1/gpu{index}") for index, sample in enumerate(samples)
    ) + tuple(gpu(sample, "node2", "node2/big", mark="layer-split") for sample in pair)
    host = HostSample(driver_version="550.163.01", numa_cpus={"0": "0-15", "1": "16-31"})
    view = node("node1")
    nodes = (replace(view, snapshot=replace(view.snapshot, host=host)), node("node2"))
    return assemble(nodes, gpus, (*workers, big), tick=tick)
