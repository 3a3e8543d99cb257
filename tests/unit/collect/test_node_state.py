"""What is kept of a node between ticks."""

from __future__ import annotations

import pytest

from llamatop.collect.decode import Decoder
from llamatop.collect.node_state import NodeState
from llamatop.collect.node_views import Standing
from llamatop.model.declared import Node
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
