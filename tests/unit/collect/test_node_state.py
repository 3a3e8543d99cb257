"""What is kept of a node between ticks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llamatop.collect.decode import Decoder
from llamatop.collect.node_state import NodeState
from llamatop.collect.node_views import Standing
from llamatop.model.declared import Node, Worker
from llamatop.model.observed import NodeSnapshot
from tests.unit.collect.fakes import gpu, worker


def test_units_that_are_gone_are_forgotten() -> None:
    state, decoder = NodeState(Node("n", "n"), 1.0), Decoder("n")
    for number in range(300):
        unit = f"llama-server-{number}.service"
        state.update(decoder.snapshot({"workers": {unit: worker()}}, float(number)))
        state.view(float(number))
        state.views.stand({f"n/{number}": Standing("in")})
    (view,) = state.views.workers
    assert (view.name, view.membership) == ("n/299", "in")
    tables = {name: held for name, held in vars(state).items() if isinstance(held, dict)}
    assert {name: len(held) for name, held in tables.items() if len(held) > 1} == {}
    assert len(state.views.standings) == 1


@pytest.mark.parametrize(("interval", "limit"), [(1.0, 2.0), (5.0, 10.0), (0.1, 0.5)])
def test_a_silence_of_two_ticks_is_told(interval: float, limit: float) -> None:
    state, decoder = NodeState(Node("n", "n"), interval), Decoder("n")
    state.update(decoder.snapshot({"host": {}}, 100.0))
    well, silent = (state.view(100.0 + limit + more) for more in (-0.05, 0.05))
    assert (well.stale, well.fault) == (False, None)
    assert (silent.stale, silent.reachable) == (True, True)
    assert (silent.fault or "").startswith("nothing was heard of it for")


def test_a_model_that_moves_to_the_cpu_is_placed_there() -> None:
    state, decoder = NodeState(Node("n", "n"), 1.0), Decoder("n")
    ollama = {
        "engine": "ollama",
        "health": "ok",
        "launch": {"source": "process", "cuda_visible_devices": "0"},
    }
    for at, on_card in enumerate((9, 0)):
        given = {**ollama, "loaded": {"m": {"size_bytes": 9, "gpu_bytes": on_card}}}
        document = {"gpus": {"GPU-1": gpu()}, "workers": {"ollama.service": given}}
        state.update(decoder.snapshot(document, float(at)))
        state.view(float(at))
        (view,) = state.views.workers
        assert view.topology == ("per-gpu" if on_card else "cpu")


def test_how_long_requests_wait_begins_anew_with_a_process_and_after_a_silence() -> None:
    state, decoder = NodeState(Node("n", "n"), 1.0), Decoder("n")

    def waits(at: float, deferred: int, identity: str = "first") -> float | None:
        given = worker(requests_deferred=deferred, identity=identity)
        state.update(decoder.snapshot({"workers": {"llama-server-a.service": given}}, at))
        state.view(at)
        (view,) = state.views.workers
        return view.queued_seconds

    assert [waits(at, 2) for at in (100.0, 101.0, 102.0)] == [0.0, 1.0, 2.0]
    assert waits(103.0, 2, "second") == 0.0
    assert waits(104.0, 2, "second") == 1.0
    assert waits(900.0, 2, "second") == 0.0, "the node was away"
    assert waits(901.0, 0, "second") is None


_CARD = st.fixed_dictionaries(
    {
        "index": st.sampled_from([0, 0, 1, None]),
        "processes": st.sampled_from([{}, {"7": 1}, {"7": 1, "8": 2}, {"8": 3}]),
    },
    optional={"power_watts": st.sampled_from([1.0, 2.0])},
)
_WORKER = st.fixed_dictionaries(
    {"health": st.just("ok"), "pids": st.sampled_from([[7], [8], [7, 8]])},
)
_CARDS = st.fixed_dictionaries({"GPU-a": _CARD}, optional={"GPU-b": _CARD})
_WORKERS = st.fixed_dictionaries(
    {"ollama-a.service": _WORKER}, optional={"llama-server-a.service": _WORKER}
)
_STANDING = st.dictionaries(
    st.sampled_from(["n/llama-server-a", "n/ollama-a", "n/a", "n/b"]),
    st.sampled_from([Standing("in"), Standing("down"), Standing(None, "in doubt")]),
)


@given(st.lists(st.tuples(_CARDS, _WORKERS, _STANDING, st.booleans()), min_size=2, max_size=8))
def test_views_kept_from_tick_to_tick_are_those_made_of_the_last_document_alone(
    ticks: list[tuple[dict[str, object], dict[str, object], dict[str, Standing], bool]],
) -> None:
    kept, decoder = NodeState(Node("n", "n"), 1.0), Decoder("n")
    standings: dict[str, Standing] = {}
    for at, (cards, workers, given_standings, anew) in enumerate(ticks):
        document = {"gpus": cards, "workers": workers}
        fresh = NodeState(Node("n", "n"), 1.0)
        if anew:
            standings = given_standings
        for state, read in ((kept, decoder), (fresh, Decoder("n"))):
            state.update(read.snapshot(document, float(at)))
            state.view(float(at))
            state.views.stand(standings)
        assert kept.views.gpus == fresh.views.gpus
        shown = [
            [
                (view.name, view.gpus, view.topology, view.membership, view.membership_fault)
                for view in state.views.workers
            ]
            for state in (kept, fresh)
        ]
        assert shown[0] == shown[1]


DECLARED = Node("n", "n", workers=(Worker("b.service", url="http://127.0.0.1:8081"),))


def test_a_declared_worker_stays_with_its_lost_node() -> None:
    state, decoder = NodeState(DECLARED, 1.0), Decoder("n")
    read = decoder.snapshot({"workers": {"a.service": worker()}}, 10.0)
    state.update(read)
    state.update(replace(read, reachable=False, faults={"node": "no answer"}))
    assert state.view(60.0).fault == "no answer"
    by_name = {view.name: view for view in state.views.workers}
    assert list(by_name) == ["n/a", "n/b"]
    assert by_name["n/b"].sample.fault == "there is no unit b.service on n that runs a known engine"
    assert by_name["n/b"].age_seconds == 50.0
    assert {one.name for one in state.endpoints} == {"n/a", "n/b"}


def test_what_a_worker_does_not_tell_is_apart_from_its_nodes_own_silence() -> None:
    state, decoder = NodeState(DECLARED, 1.0), Decoder("n")
    document = {
        "workers": {"a.service": worker(), "b.service": worker()},
        "ages": {"workers/b.service": 12.0},
    }
    read = decoder.snapshot(document, 10.0)
    state.update(replace(read, reachable=False, faults={"node": "no answer"}))
    state.view(60.0)
    ages = [(view.age_seconds, view.silent_seconds) for view in state.views.workers]
    assert ages == [(50.0, None), (62.0, 12.0)]


def test_a_declared_worker_is_listed_though_its_node_was_never_read() -> None:
    state = NodeState(DECLARED, 1.0)
    state.view(0.0)
    assert state.views.workers == (), "nobody has tried yet"
    state.update(NodeSnapshot("n", faults={"node": "connection refused"}))
    state.view(1.0)
    (view,) = state.views.workers
    assert (view.name, view.sample.health, view.slots_busy) == ("n/b", None, None)
    assert view.sample.fault == "n was not read yet: connection refused"
    assert [(one.name, one.port) for one in state.endpoints] == [("n/b", 8081)]
    state.update(Decoder("n").snapshot({"workers": {"b.service": worker()}}, 5.0))
    state.view(5.0)
    assert [(one.name, one.sample.fault) for one in state.views.workers] == [("n/b", None)]
