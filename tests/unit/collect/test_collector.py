"""The collector over scripted machines: one joined snapshot a tick, whatever the nodes do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import llamatop.transport.ssh  # noqa: F401 - or the collector imports it in real time
from llamatop.cli.reading import settled, unread
from llamatop.collect import resolve
from llamatop.collect.collector import Collector
from llamatop.errors import NodeError, UsageError
from llamatop.model.cluster import ClusterSnapshot, Event
from llamatop.model.declared import Balancer, Cluster, Node, Worker
from llamatop.transport.base import Completed

from . import virtual
from .fakes import (
    Document,
    FakeChannel,
    FakeMachine,
    FakeMachines,
    gpu,
    refused,
    ticking,
    unit,
    worker,
)

UNIT = "llama-server-gpu0.service"
NGINX = """
upstream llama_cluster {
    least_conn;
    server 127.0.0.1:37081;
    server 127.0.0.1:37083 weight=3%s;
}
"""


@pytest.fixture(autouse=True)
def _names_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def addresses(cluster: Cluster) -> AsyncIterator[tuple[str, frozenset[str]]]:
        for node in cluster.nodes:
            yield node.name, resolve.names(node)

    monkeypatch.setattr(resolve, "addresses", addresses)


def node_document(tick: int, busy: int = 1, **more: Any) -> Document:
    return {
        "host": {"cpu_percent": 12.0, "load1": 0.5},
        "gpus": {"GPU-1": gpu(0, 37081)},
        "units": {UNIT: unit()},
        "workers": {UNIT: worker(busy=busy, at=float(tick))},
        **more,
    }


def balanced(tick: int, down: str = "", **more: Any) -> Document:
    files = {"/etc/nginx/nginx.conf": {"text": f"http {{ {NGINX % down} }}"}}
    tunnels = {
        "0": {
            "direction": "L",
            "listen": "127.0.0.1:37083",
            "target": "127.0.0.1:37081",
            "destination": "node2",
        }
    }
    balancer = {"running": True, "files": files, "main": "/etc/nginx/nginx.conf", **more}
    return node_document(tick, tunnels=tunnels, balancer=balancer)


def cluster(*nodes: Node, **more: Any) -> Cluster:
    given = {"balancer": Balancer("node1", "llama_cluster"), "path": Path("c.toml"), **more}
    return Cluster("test", nodes or (Node("node1", "node1"), Node("node2", "node2")), **given)


def two(**second: Any) -> FakeMachines:
    first = FakeMachine("node1", probe=ticking(balanced))
    other = {"probe": ticking(node_document), **second}
    return FakeMachines(first, FakeMachine("node2", **other))


@contextlib.asynccontextmanager
async def collecting(
    machines: FakeMachines, declared: Cluster | None = None
) -> AsyncIterator[Collector]:
    async with Collector(declared or cluster(), machines, clock=virtual.clock) as collector:
        yield collector


async def seen(collector: Collector, ticks: int) -> ClusterSnapshot:
    async with aclosing(collector.snapshots()) as snapshots:
        async for snapshot in snapshots:
            if snapshot.tick >= ticks:
                return snapshot
    raise AssertionError("the snapshots ended")


def sample(machines: FakeMachines, declared: Cluster | None = None, ticks: int = 4) -> Any:
    async def work() -> ClusterSnapshot:
        async with collecting(machines, declared) as collector:
            return await seen(collector, ticks)

    return virtual.run(work())


def test_nodes_workers_cards_and_members_are_joined() -> None:
    snapshot = sample(two())
    assert [node.reachable for node in snapshot.nodes] == [True, True]
    assert [worker.name for worker in snapshot.workers] == ["node1/gpu0", "node2/gpu0"]
    one = snapshot.worker("node1/gpu0")
    assert (one.gpus, one.gpus_source, one.topology) == ((0,), "nvml", "per-gpu")
    assert (one.slots_busy, one.slots_total, one.context_used_tokens) == (1, 2, 10)
    assert one.generation_tokens_per_second == pytest.approx(50, rel=0.02)
    assert one.prompt_tokens_per_second == 0.0
    assert one.membership == "in"
    assert one.members == (("llama_cluster", "127.0.0.1:37081"),)
    assert snapshot.worker("node2/gpu0").members == (("llama_cluster", "127.0.0.1:37083"),)
    assert [(m.address, m.worker, m.weight) for m in snapshot.members] == [
        ("127.0.0.1:37081", "node1/gpu0", 1),
        ("127.0.0.1:37083", "node2/gpu0", 3),
    ]
    assert snapshot.gpus[0].workers == ("node1/gpu0",)
    assert snapshot.totals.generation_tokens_per_second == pytest.approx(100, rel=0.02)
    assert (snapshot.totals.slots_busy, snapshot.totals.slots_total) == (2, 4)
    assert snapshot.healthy


def test_before_the_first_tick_nothing_is_known() -> None:
    collector = Collector(cluster(), two(), clock=lambda: 0.0)
    assert [node.age_seconds for node in collector.latest.nodes] == [None, None]
    assert collector.latest.totals.slots_total is None
    assert not collector.latest.healthy


def test_the_balancer_is_connected_to_after_the_first_other_node() -> None:
    opened: list[str] = []

    def machine(name: str) -> FakeMachine:
        probe = ticking(balanced if name == "node1" else node_document)

        def start(channel: FakeChannel, number: int) -> None:
            opened.append(name)
            probe(channel, number)

        return FakeMachine(name, probe=start)

    names = ("node1", "node2", "node3")
    snapshot = sample(
        FakeMachines(*map(machine, names)), cluster(*(Node(name, name) for name in names))
    )
    assert opened == ["node2", "node1", "node3"]
    assert [node.name for node in snapshot.nodes] == list(names)


@pytest.mark.parametrize(
    ("count", "hangs", "soonest", "latest"),
    [
        # some are connected to together
        (4, True, 0.0, 0.01),
        # many when the first is shown, or does not answer
        (20, False, 0.03, 0.2),
        (20, True, 0.2, 0.3),
    ],
)
def test_of_many_nodes_the_first_is_shown_before_the_others_are_connected_to(
    count: int, hangs: bool, soonest: float, latest: float
) -> None:
    names = [f"node{number}" for number in range(count)]
    opened: dict[str, float] = {}

    def machine(name: str) -> FakeMachine:
        probe = ticking(node_document)

        def start(channel: FakeChannel, number: int) -> None:
            opened[name] = virtual.clock()
            probe(channel, number)

        return FakeMachine(name, probe=start, hang=hangs and name == "node0")

    begun: list[float] = []

    async def work() -> ClusterSnapshot:
        begun.append(virtual.clock())
        declared = cluster(*(Node(name, name) for name in names), balancer=None)
        async with collecting(FakeMachines(*map(machine, names)), declared) as collector:
            return await seen(collector, 2)

    snapshot = virtual.run(work())
    assert [node.reachable for node in snapshot.nodes] == [not hangs, *[True] * (count - 1)]
    assert all(soonest <= opened[name] - begun[0] <= latest for name in names[1:]), opened


def test_figures_come_long_before_the_first_tick_is_over() -> None:
    async def work() -> None:
        async with collecting(two()) as collector:
            before = virtual.clock()
            async for snapshot in collector.snapshots():
                if len(snapshot.workers) == 2:
                    break
            assert virtual.clock() - before < 0.3

    virtual.run(work())


@pytest.mark.parametrize("bad", [{"hang": True}, {"refuse": refused("node2")}])
def test_a_node_that_cannot_be_reached_holds_nothing_up(bad: dict[str, Any]) -> None:
    snapshot = sample(two(**bad))
    assert snapshot.node("node1").reachable
    assert snapshot.worker("node1/gpu0").generation_tokens_per_second is not None
    assert not snapshot.node("node2").reachable
    assert snapshot.node("node2").age_seconds is None
    assert not snapshot.healthy


def test_a_node_that_falls_silent_is_stale_and_counts_no_more() -> None:
    def start(channel: FakeChannel, number: int) -> None:
        if number == 1:
            for tick in range(3):
                channel.say({"tick": tick, **node_document(tick)})

    snapshot = sample(two(probe=start), ticks=6)
    node = snapshot.node("node2")
    assert node.stale
    assert node.age_seconds == pytest.approx(6, abs=0.5)
    assert "nothing was heard" in (node.fault or "")
    old = snapshot.worker("node2/gpu0")
    assert old.sample.model == "tiny"
    assert old.generation_tokens_per_second is None
    assert old.slots_busy is None
    assert snapshot.totals.slots_busy == 1


@pytest.mark.parametrize(
    ("change", "healthy"),
    [
        ({}, True),
        ({"health": "busy"}, True),
        ({"health": "loading"}, False),
        ({"health": "unreachable"}, False),
        ({"health": None}, False),
    ],
)
def test_health_of_a_worker_that_is_in(change: Document, healthy: bool) -> None:
    workers = {UNIT: {**worker(), **change}}
    machines = two(probe=ticking(lambda tick: {**node_document(tick), "workers": workers}))
    assert sample(machines).healthy is healthy


def test_a_drained_worker_is_well_running_or_stopped() -> None:
    stopped = {"workers": {UNIT: {**worker(), "health": "unreachable"}}}
    first = FakeMachine("node1", probe=ticking(lambda tick: balanced(tick, " down")))
    second = FakeMachine(
        "node2", probe=ticking(lambda tick: {**node_document(tick, busy=0), **stopped})
    )
    snapshot = sample(FakeMachines(first, second))
    assert snapshot.worker("node2/gpu0").membership == "down"
    assert snapshot.healthy


def test_down_with_requests_still_running_is_draining() -> None:
    first = FakeMachine("node1", probe=ticking(lambda tick: balanced(tick, " down")))
    second = FakeMachine("node2", probe=ticking(node_document))
    snapshot = sample(FakeMachines(first, second))
    assert snapshot.worker("node2/gpu0").membership == "draining"
    assert snapshot.members[1].state == "draining"


def test_a_stopped_disabled_worker_that_is_no_member_is_well() -> None:
    spare = {
        "units": {"llama-server-x.service": unit("inactive", "dead", unit_file_state="disabled")},
        "workers": {"llama-server-x.service": {"engine": "llama-server", "health": "unreachable"}},
    }
    first = FakeMachine("node1", probe=ticking(node_document))
    second = FakeMachine("node2", probe=ticking(lambda tick: spare))
    snapshot = sample(FakeMachines(first, second), cluster(balancer=None))
    assert snapshot.worker("node2/x").sample.health == "unreachable"
    assert snapshot.healthy


def test_a_cards_fault_and_an_invalid_nginx_are_unhealthy() -> None:
    lost = {"gpus": {"GPU-1": gpu(0, fault="the card fell off the bus")}}
    machines = two(probe=ticking(lambda tick: {**node_document(tick), **lost}))
    assert not sample(machines).healthy
    first = FakeMachine("node1", probe=ticking(lambda tick: balanced(tick, config_valid=False)))
    assert not sample(
        FakeMachines(first, FakeMachine("node2", probe=ticking(node_document)))
    ).healthy


def test_nvml_that_is_missing_is_no_fault_where_nvidia_smi_answers() -> None:
    faults = {"faults": {"gpus": "NVML is not there"}}

    def fault(cards: Document) -> str | None:
        machines = two(probe=ticking(lambda tick: {**node_document(tick), **faults, **cards}))
        told: str | None = sample(machines).node("node2").fault
        return told

    assert fault({"gpus": {"GPU-1": gpu(0, source="nvidia-smi")}}) is None
    assert fault({"gpus": {}}) == "NVML is not there"


def test_nginx_that_does_not_parse_is_a_fault_of_the_balancer_alone() -> None:
    def broken(tick: int) -> Document:
        document = balanced(tick)
        document["balancer"]["files"]["/etc/nginx/nginx.conf"]["text"] = "http { upstream x {"
        return document

    first = FakeMachine("node1", probe=ticking(broken))
    snapshot = sample(FakeMachines(first, FakeMachine("node2", probe=ticking(node_document))))
    assert snapshot.members == ()
    assert snapshot.balancer is not None
    assert snapshot.balancer.config_valid is False
    assert not snapshot.healthy
    assert "does not parse" in snapshot.node("node1").fault
    assert "/etc/nginx/nginx.conf" in snapshot.node("node1").fault
    assert snapshot.worker("node1/gpu0").membership is None
    assert snapshot.worker("node1/gpu0").generation_tokens_per_second is not None


def test_a_worker_that_may_stand_in_an_unreadable_file_is_not_called_absent() -> None:
    def closed(tick: int) -> Document:
        fault = "/etc/nginx/x.conf: permission denied; let this user read it (chmod o+r)"
        document = balanced(tick, fault=fault)
        document["balancer"]["files"]["/etc/nginx/nginx.conf"]["text"] = "http { include x.conf; }"
        return document

    first = FakeMachine("node1", probe=ticking(closed))
    snapshot = sample(FakeMachines(first, FakeMachine("node2", probe=ticking(node_document))))
    worker = snapshot.worker("node1/gpu0")
    assert worker.membership is None
    assert worker.fault is not None
    assert "/etc/nginx/x.conf: permission denied" in worker.fault


def test_an_upstream_that_nginx_does_not_have_is_a_fault_that_names_those_it_has() -> None:
    snapshot = sample(two(), cluster(balancer=Balancer("node1", "llama_clustr")))
    assert snapshot.balancer is not None
    assert snapshot.balancer.fault == (
        "nginx has no upstream 'llama_clustr'; correct balancer.upstream in the cluster file;"
        " it has: llama_cluster"
    )
    # Its members are this cluster's only once their workers are known; nobody added them.
    assert [event.text for event in snapshot.events if "llama_cluster" in event.text] == []


def test_with_hosts_alone_the_balancer_is_found() -> None:
    snapshot = sample(two(), cluster(balancer=None, path=None))
    assert snapshot.balancer_node == "node1"
    assert snapshot.cluster.balancer == Balancer("node1", "llama_cluster")
    assert snapshot.worker("node2/gpu0").membership == "in"


def test_without_a_balancer_membership_is_unknown() -> None:
    snapshot = sample(two(), cluster(balancer=None))
    assert snapshot.balancer_node is None
    assert snapshot.worker("node1/gpu0").membership is None
    assert snapshot.worker("node1/gpu0").fault is None


def test_a_worker_that_no_line_leads_to_is_absent_and_doubt_is_unknown() -> None:
    def no_tunnel(tick: int) -> Document:
        document = balanced(tick)
        del document["tunnels"]
        return document

    first = FakeMachine("node1", probe=ticking(no_tunnel))
    snapshot = sample(FakeMachines(first, FakeMachine("node2", probe=ticking(node_document))))
    doubtful = snapshot.worker("node2/gpu0")
    assert doubtful.membership is None
    assert "127.0.0.1:37083" in (doubtful.fault or "")

    def other_port(tick: int) -> Document:
        document = balanced(tick)
        document["workers"]["llama-server-b.service"] = worker(port=39999)
        return document

    first = FakeMachine("node1", probe=ticking(other_port))
    snapshot = sample(FakeMachines(first, FakeMachine("node2", probe=ticking(node_document))))
    assert snapshot.worker("node1/b").membership == "absent"


def elsewhere(answer: str) -> FakeMachine:
    """A balancer whose tunnel leads to a name unknown here; it asks through a member if told to."""

    def start(channel: FakeChannel, number: int) -> None:
        def document(tick: int) -> Document:
            made = balanced(tick)
            made["tunnels"]["0"]["destination"] = "b.internal"
            made["workers"][UNIT]["identity"] = "111"
            if b'{"members":["127.0.0.1:37083"]}' in b"".join(channel.written):
                made["members"] = {"127.0.0.1:37083": {"identity": answer, "reads": 1}}
            return made

        ticking(document)(channel, number)

    return FakeMachine("node1", probe=start)


def numbered(tick: int) -> Document:
    made = node_document(tick)
    made["workers"][UNIT]["identity"] = "222"
    return made


def test_a_doubt_is_settled_by_asking_through_the_member() -> None:
    machines = FakeMachines(elsewhere("222"), FakeMachine("node2", probe=ticking(numbered)))
    assert sample(machines, ticks=1).worker("node2/gpu0").membership is None
    assert sample(machines, ticks=6).worker("node2/gpu0").membership == "in"
    sent = b"".join(machines.machine("node1").channels[-1].written)
    assert b'{"members":[]}' in sent, "once it is certain nobody is asked any more"


def test_an_answer_of_somebody_else_leaves_the_doubt() -> None:
    machines = FakeMachines(elsewhere("999"), FakeMachine("node2", probe=ticking(numbered)))
    assert sample(machines, ticks=6).worker("node2/gpu0").membership is None


def test_a_declared_unit_that_is_not_there_is_shown_with_its_fault() -> None:
    node = Node("node2", "node2", workers=(Worker("gone.service"),))
    snapshot = sample(two(), cluster(Node("node1", "node1"), node))
    gone = snapshot.worker("node2/gone")
    assert gone.unit.load_state == "not-found"
    assert "gone.service" in (gone.fault or "")


def test_the_wire_gets_keys_and_the_balancer_kind() -> None:
    machines = two()
    node = Node(
        "node1", "node1", units=("llama-*",), workers=(Worker("a.service", url="http://x"),)
    )

    async def work() -> None:
        collector = Collector(
            cluster(node, Node("node2", "node2")),
            machines,
            secrets={("node1", "a.service"): "k3y"},
            clock=virtual.clock,
        )
        async with collector:
            await seen(collector, 2)

    virtual.run(work())
    first = machines.machine("node1")
    sent = b"".join(first.channels[0].written)
    assert b"k3y" in sent
    assert b"nginx" in sent
    assert b"llama-*" in sent
    assert not any("k3y" in str(command) for command in first.commands)
    assert b"k3y" not in b"".join(machines.machine("node2").channels[0].written)


def test_events_tell_what_changed_and_when_a_node_is_lost_and_back() -> None:
    def start(channel: FakeChannel, number: int) -> None:
        if number == 1:
            for tick in range(3):
                channel.say({"tick": tick, **node_document(tick)})
            channel.say({"tick": 3, "units": {UNIT: unit("failed", "failed", result="exit-code")}})
            channel.end(1, b"killed")
        else:
            ticking(node_document)(channel, number)

    snapshot = sample(two(probe=start), ticks=5)
    told = [(event.severity, event.worker, event.text) for event in snapshot.events]
    assert (
        "error",
        "node2/gpu0",
        f"{UNIT}: active (running) → failed (failed, result exit-code)",
    ) in told
    assert any(severity == "error" and "killed" in text for severity, _, text in told)
    assert any("the node is back" in text for _, _, text in told)


def test_what_a_plan_left_drained_is_told_once_by_name() -> None:
    left = {
        "upstream": "llama_cluster",
        "address": "127.0.0.1:37083",
        "plan": "p1",
        "who": "ann@laptop",
        "what": "roll",
    }

    def document(tick: int) -> Document:
        return balanced(tick, " down", left=[{**left, "minutes": 12 + tick}])

    first = FakeMachine("node1", probe=ticking(document))
    second = FakeMachine("node2", probe=ticking(node_document))
    snapshot = sample(FakeMachines(first, second), ticks=6)
    told = [event for event in snapshot.events if "left drained" in event.text]
    assert [(event.severity, event.node, event.worker) for event in told] == [
        ("warning", "node1", "node2/gpu0")
    ]
    assert told[0].text.startswith("node2/gpu0 was left drained by ann@laptop 1")
    assert told[0].text.endswith(" min ago (roll): llamatop recover puts it back")


def test_history_has_a_value_a_tick() -> None:
    async def work() -> None:
        async with collecting(two()) as collector:
            await seen(collector, 8)
            rates = collector.history.generation("node1/gpu0")
            assert len(rates) == 8
            assert rates[-1] == pytest.approx(50, rel=0.02)
            assert collector.history.gpu_utilization("node1", "GPU-1")[-1] == 96.0
            assert collector.history.total_generation()[-1] == pytest.approx(100, rel=0.02)
            assert collector.history.generation("nobody") == ()

    virtual.run(work())


def test_a_slow_reader_gets_only_the_newest() -> None:
    async def work() -> None:
        async with collecting(two()) as collector, aclosing(collector.snapshots()) as snapshots:
            await anext(snapshots)
            await asyncio.sleep(10)
            late = await anext(snapshots)
            assert late is collector.latest
            assert late.tick >= 9

    virtual.run(work())


def test_announced_events_are_shown_at_once() -> None:
    async def work() -> None:
        async with collecting(two()) as collector:
            snapshot = await seen(collector, 2)
            collector.announce(Event(snapshot.taken_at, "info", "drained", "node1"))
            before = virtual.clock()
            async for snapshot in collector.snapshots():
                if snapshot.events and snapshot.events[-1].text == "drained":
                    break
            assert virtual.clock() - before < 0.5

    virtual.run(work())


def test_what_has_no_news_is_the_same_object_in_the_next_snapshot() -> None:
    async def work() -> None:
        # Their documents come in the middle of a tick; the cards of the second are at rest.
        def workers_alone(tick: int) -> Document:
            document = node_document(tick)
            if tick:
                del document["gpus"]
            return document

        first = FakeMachine("node1", probe=ticking(balanced, after=0.5))
        other = FakeMachine("node2", probe=ticking(workers_alone, after=0.5))
        async with collecting(FakeMachines(first, other)) as collector:
            before = await seen(collector, 3)
            collector.announce(Event(before.taken_at, "info", "drained", "node1"))
            async for after in collector.snapshots():
                if after is not before:
                    break
            assert after.tick == before.tick, "no document came in between"
            for one, other in zip(after.workers, before.workers, strict=True):
                assert one is other
            for card, was in zip(after.gpus, before.gpus, strict=True):
                assert card is was
            assert after.members is before.members
            later = await seen(collector, before.tick + 1)
            assert later.workers[1] is not before.workers[1]
            assert later.gpus[1] is before.gpus[1]

    virtual.run(work())


def test_a_lost_node_says_when_it_is_tried_next() -> None:
    async def work() -> None:
        async with collecting(two(refuse=refused("node2"))) as collector:
            waits = []
            async for snapshot in collector.snapshots():
                assert snapshot.node("node1").next_try_seconds is None
                waits.append(snapshot.node("node2").next_try_seconds)
                if snapshot.tick >= 40:
                    break
            known = [wait for wait in waits if wait is not None]
            assert 8 < max(known) <= 15, "it backs off"
            falls = [a - b for a, b in pairwise(waits) if a and b and a > b]
            assert falls.count(pytest.approx(1.0)) > 10, "a second less each second"

    virtual.run(work())


def test_a_node_that_is_tried_at_once_is_not_waited_for() -> None:
    async def work() -> None:
        machines = two(refuse=refused("node2"))
        async with collecting(machines) as collector:
            await seen(collector, 20)
            machines.machine("node2").hang = True
            collector.hurry("node2")
            snapshot = await seen(collector, collector.latest.tick + 1)
            assert snapshot.node("node2").next_try_seconds is None
            assert "connection refused" in (snapshot.node("node2").fault or "")

    virtual.run(work())


def test_a_refreshed_node_is_in_the_latest_snapshot() -> None:
    async def work() -> None:
        async with collecting(two()) as collector:
            await seen(collector, 1)
            snapshot = await collector.refresh("node2")
            assert collector.latest.node("node2").snapshot == snapshot
            with pytest.raises(KeyError):
                await collector.refresh("node9")

    virtual.run(work())


def test_a_complete_sample_waits_for_rates_but_not_for_the_unreachable() -> None:
    async def work(machines: FakeMachines) -> tuple[float, ClusterSnapshot]:
        before = virtual.clock()
        async with collecting(machines) as collector:
            snapshot = await settled(collector)
        return virtual.clock() - before, snapshot

    seconds, snapshot = virtual.run(work(two()))
    assert snapshot.worker("node2/gpu0").generation_tokens_per_second is not None
    assert seconds < 2.5
    seconds, _ = virtual.run(work(two(refuse=refused("node2"))))
    assert seconds < 2.5
    seconds, snapshot = virtual.run(work(two(hang=True)))
    assert seconds <= 6
    assert snapshot.node("node2").fault == "nothing has come from it within 6 s; look at it again"
    assert snapshot.worker("node1/gpu0").generation_tokens_per_second is not None


def test_a_complete_sample_waits_long_while_nobody_has_answered() -> None:
    async def work() -> ClusterSnapshot:
        slow = (ticking(balanced, after=8.0), ticking(node_document, after=9.0))
        machines = FakeMachines(*(FakeMachine(f"node{n}", probe=p) for n, p in enumerate(slow, 1)))
        async with collecting(machines) as collector:
            return await settled(collector)

    snapshot = virtual.run(work())
    assert [node.reachable for node in snapshot.nodes] == [True, True]


def test_a_complete_sample_waits_for_a_running_worker_that_has_not_answered_yet() -> None:
    def answering_late(tick: int) -> Document:
        document = node_document(tick)
        if tick < 3:
            document["workers"] = {UNIT: {"unit": UNIT, "engine": "llama-server"}}
        return document

    async def work() -> ClusterSnapshot:
        machines = FakeMachines(FakeMachine("node1", probe=ticking(answering_late)))
        async with collecting(machines, cluster(Node("node1", "node1"), balancer=None)) as at:
            return await settled(at)

    assert virtual.run(work()).worker("node1/gpu0").sample.health == "ok"


@pytest.mark.parametrize(
    ("ticks", "named", "least", "most"), [(6, False, 4.0, 7.0), (99, True, 10.0, 13.0)]
)
def test_a_judged_sample_waits_for_the_headers_of_models_but_not_for_ever(
    ticks: int, named: bool, least: float, most: float
) -> None:
    def reading(tick: int) -> Document:
        document = node_document(tick)
        document["workers"][UNIT]["launch"]["model"] = "/m.gguf"
        known = {"reading": True} if tick < ticks else {"architecture": "llama", "reading": None}
        document["models"] = {"/m.gguf": {"path": "/m.gguf", **known}}
        return document

    async def work(headers: bool) -> tuple[float, list[str]]:
        before = virtual.clock()
        machines = FakeMachines(FakeMachine("node1", probe=ticking(reading)))
        async with collecting(machines, cluster(Node("node1", "node1"), balancer=None)) as at:
            snapshot = await settled(at, headers=headers)
        return virtual.clock() - before, [worker.name for worker in unread(snapshot)]

    seconds, names = virtual.run(work(True))
    assert least <= seconds <= most
    assert names == (["node1/gpu0"] if named else [])
    seconds, names = virtual.run(work(False))
    assert seconds < 2.5
    assert names == ["node1/gpu0"]


def test_a_fault_of_our_own_reaches_the_reader() -> None:
    async def work() -> None:
        def broken(channel: FakeChannel, _: int) -> None:
            raise AssertionError("a bug")

        machines = FakeMachines(FakeMachine("node1", probe=broken))
        declared = cluster(Node("node1", "node1"), balancer=None)
        async with collecting(machines, declared) as collector:
            with pytest.raises(AssertionError, match="a bug"):
                await seen(collector, 5)

    virtual.run(work())


def journal(machine: FakeMachine, name: str, follow: bool = False) -> list[str]:
    async def work() -> list[str]:
        declared = cluster(Node("node1", "node1"), balancer=None)
        async with collecting(FakeMachines(machine), declared) as collector:
            await seen(collector, 2)
            return [line async for line in collector.journal(name, 5, follow)]

    return virtual.run(work())


def answering(stdout: bytes, stderr: bytes = b"", status: int = 0) -> FakeMachine:
    return FakeMachine(
        "node1",
        probe=ticking(node_document),
        answer=lambda command: Completed(status, stdout, stderr),
    )


def test_a_journal_is_read_by_any_of_the_workers_names() -> None:
    machine = answering(b"2026-11-21T02:00:00+00:00 a b: one\n-- cursor: s=1\n")
    for name in ("node1/gpu0", f"node1/{UNIT}", "node1/llama-server-gpu0"):
        assert journal(machine, name) == ["2026-11-21T02:00:00+00:00 a b: one"]
    asked = [command.argv for command in machine.commands if command.argv[0] == "journalctl"]
    assert asked[0][asked[0].index("-u") + 1] == UNIT


def test_a_journal_that_may_not_be_read_says_what_to_do() -> None:
    hint = b"Hint: You are currently not seeing messages from other users and the system.\n"
    machine = answering(b"-- No entries --\n", hint + b"No journal files were opened\n", 1)
    with pytest.raises(NodeError, match="systemd-journal"):
        journal(machine, "node1/gpu0")


def test_a_journal_of_nobody() -> None:
    with pytest.raises(UsageError, match="node1/gpu0"):
        journal(answering(b""), "node1/gpu9")
    with pytest.raises(UsageError, match="node1"):
        journal(answering(b""), "node9/gpu0")


def test_what_a_login_shell_prints_before_is_no_journal() -> None:
    noise = b"Welcome to node1!\n2 updates can be installed\n"
    entries = b"2026-11-21T02:00:00+00:00 a b: one\n    and its second line\n-- cursor: s=1\n"
    assert journal(answering(noise + entries), "node1/gpu0") == [
        "2026-11-21T02:00:00+00:00 a b: one",
        "    and its second line",
    ]
    with pytest.raises(NodeError, match="cannot be read: no such unit"):
        journal(answering(noise, b"no such unit", 1), "node1/gpu0")


def test_a_followed_journal_goes_on_after_the_last_entry() -> None:
    one, two = "2026-11-21T02:00:00+00:00 a b: one", "2026-11-21T02:00:01+00:00 a b: two"
    machine = answering(f"{one}\n-- cursor: s=1;i=2\n".encode())

    async def work() -> None:
        declared = cluster(Node("node1", "node1"), balancer=None)
        async with collecting(FakeMachines(machine), declared) as collector:
            await seen(collector, 2)

            def follow(channel: FakeChannel, _: int) -> None:
                channel.say_bytes(b"Welcome to node1!\n")
                channel.say_bytes(f"{two}\n".encode())

            machine.probe = follow
            async with aclosing(collector.journal("node1/gpu0", 5, True)) as lines:
                assert [await anext(lines), await anext(lines)] == [one, two]
            assert machine.channels[-1].closed
            assert "--after-cursor=s=1;i=2" in machine.commands[-1].argv

    virtual.run(work())
