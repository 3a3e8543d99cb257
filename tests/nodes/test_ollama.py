"""The llama-server that an Ollama spawned is read as its parent's, and never listed as a worker."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nodes import ollama
from tests.nodes.cluster import Cluster
from tests.nodes.machine import Machine
from tests.nodes.watch import Sample, Watch

TOKENS = 4000
NAME = "node3/ollama"


@pytest.fixture(scope="module")
def node(installed: None) -> Iterator[Cluster]:
    """One node with an Ollama and nothing else."""
    with Cluster() as cluster:
        machine = cluster.add_node("node3", ())
        machine.write("/usr/local/bin/ollama", ollama.PROGRAM, mode=0o755)
        machine.write("/etc/systemd/system/ollama.service", ollama.UNIT)
        machine.enable("ollama.service")
        cluster.power_on()
        yield cluster


def ask(machine: Machine, **request: object) -> None:
    # One whose model is unloaded meanwhile ends in an error.
    machine.run(["python3", "-c", ollama.ASK, json.dumps(request)], check=False, timeout=300)


def busy(sample: Sample) -> bool:
    worker = sample.worker(NAME)
    return worker["slots_busy"] == 2 and (worker["generation_tokens_per_second"] or 0) > 1


def test_its_slots_and_rates_show_while_its_model_is_loaded(node: Cluster, tmp_path: Path) -> None:
    machine = node["node3"]
    with Watch(node.write_files(tmp_path)) as watch:
        empty = watch.wait("the Ollama", lambda s: s.worker(NAME)["health"] == "ok").worker(NAME)
        assert empty["loaded_models"] == []
        assert (empty["slots_busy"], empty["slots_total"]) == (0, 0)
        watch.wait("its disk", lambda s: s.worker(NAME)["models_on_disk"] == ["steady:1b"])
        assert machine.run(["pgrep", "-c", "llama-server"], check=False).stdout.strip() == "0"
        asking = [
            threading.Thread(target=ask, args=(machine,), kwargs={"options": {"num_predict": many}})
            for many in (TOKENS, TOKENS)
        ]
        for one in asking:
            one.start()
        sample = watch.wait("both slots busy and a rate", busy)
        assert [worker["name"] for worker in sample.node("node3")["workers"]] == [NAME]
        worker = sample.worker(NAME)
        assert (worker["engine"], worker["model"]) == ("ollama", "steady:1b")
        assert worker["requests_deferred"] is None, "Ollama does not tell"
        (model,) = worker["loaded_models"]
        assert (model["slots_busy"], model["slots_total"]) == (2, 2)
        assert 200 < model["expires_in_seconds"] <= 301
        assert worker["context_tokens"] == 8192
        ask(machine, keep_alive=0)
        gone = watch.wait("it is unloaded", lambda s: s.worker(NAME)["slots_total"] == 0)
        assert gone.worker(NAME)["loaded_models"] == []
        assert gone.worker(NAME)["health"] == "ok"
        for one in asking:
            one.join(300)
