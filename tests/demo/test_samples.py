"""The sample cluster files: right for their reader, and shapes for the demo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llamatop import config
from llamatop.demo import like

from .conftest import Demo, Sample, Watch
from .test_end_to_end import workers

# What is particular to each: a figure of its workers, and what they must say.
PARTICULAR: dict[str, tuple[str, list[object]]] = {
    "behind-a-jump-host": ("membership", ["in"] * 6),
    "fleet-64x8": ("membership", ["in"] * 512),
    "mixed-cards": ("membership", ["in", "in", "absent", "absent", "absent", "in"]),
    "mixed-engines": ("engine", [*["llama-server"] * 2, "ollama", "vllm", *["llama-server"] * 2]),
    "ollama-spill": ("on the CPU", [[True], [False]]),
    "ollama-weighted": ("topology", ["per-gpu", "per-gpu", "layer-split"]),
    "one-machine": ("topology", ["per-gpu"] * 2),
    "p40-2x2": ("membership", ["in"] * 4),
    "sixteen-instances": ("topology", ["shared"] * 16),
    "vllm-tensor-parallel": ("topology", ["tensor-split"]),
}
SAMPLES = sorted((Path(__file__).parents[2] / "sample_clusters").glob("*.toml"))


def told(worker: Sample, figure: str) -> object:
    """What a worker says; of models, whether a part of each is on the CPU."""
    if figure == "on the CPU":
        return [model["cpu_bytes"] > 0 for model in worker["loaded_models"] or ()]
    return worker[figure]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_loads_and_can_be_embedded(path: Path) -> None:
    cluster = config.load(path)
    shape = like.embed(like.read(path), "127.9.9")
    assert [node.name for node in shape.nodes] == [node.name for node in cluster.nodes]
    assert shape.balancer == (cluster.balancer.node if cluster.balancer else None)
    for node in shape.nodes:
        ports = [worker.port for worker in node.workers]
        assert len(set(ports)) == len(ports) > 0
        assert max(card for worker in node.workers for card in worker.cards) < node.cards


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_opens_in_the_demo(
    own_demo: Callable[..., Demo], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LLAMA_API_KEY", "VLLM_API_KEY"):
        monkeypatch.setenv(name, "demo")
    figure, expected = PARTICULAR[path.stem]
    demo = own_demo("--like", str(path))

    def well(sample: Sample) -> bool:
        seen = [told(worker, figure) for worker in workers(sample).values()]
        assert [node["name"] for node in sample["nodes"]] == [
            node.name for node in config.load(path).nodes
        ]
        return sample["healthy"] is True and seen == expected

    # One connection to each node: another look at a fleet every time would keep this machine busy.
    watching = Watch(demo)
    watching.until(well, 300.0)
    watching.end()


def test_nodes_behind_a_jump_host_are_reached_through_it(own_demo: Callable[..., Demo]) -> None:
    demo = own_demo("--like", str(SAMPLES[0]))
    assert SAMPLES[0].stem == "behind-a-jump-host"
    assert "ProxyJump jump" in (demo.directory / "ssh_config").read_text()
    # The jump's own ssh must find the same configuration and keys.
    hop = f"ssh -F {demo.directory}/ssh_config -W %h:%p jump"
    done = demo.ssh("lab3", "hostname", "-o", f"ProxyCommand={hop}")
    assert (done.stdout, done.returncode) == ("lab3\n", 0)
    assert demo.ssh("lab2", "hostname").stdout == "lab2\n"


def test_other_engines_and_a_node_without_ssh(own_demo: Callable[..., Demo]) -> None:
    path = next(path for path in SAMPLES if path.stem == "mixed-engines")
    demo = own_demo("--like", str(path))
    cluster = config.load(demo.directory / "cluster.toml")
    assert [node.name for node in cluster.nodes] == ["alpha", "beta", "edge"]
    edge = cluster.node("edge")
    assert edge.ssh is None
    assert edge.url is not None
    read = f"import urllib.request as u; print(u.urlopen('{edge.url}/health').read().decode())"
    assert demo.out("alpha", f'python3 -c "{read}"') == '{"status":"ok"}\n'
