"""No secret gets into a recording, wherever on a node or in a cluster file it stands."""

from __future__ import annotations

import bz2
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import fields, replace

from llamatop.model.cluster import ClusterSnapshot, Event
from llamatop.model.declared import Balancer, Node, Worker
from llamatop.model.observed import EngineLoad, LeftDrained, LoadedModel, Tunnel
from llamatop.record.redact import HIDDEN, Redactor
from llamatop.record.writer import Recorder
from tests.screens import clusters

PLANTED = "hunter2-Zx81Qq"


@pytest.mark.parametrize(
    "text",
    [
        "llama-server -m x.gguf --api-key {} --port 80",
        "llama-server --api-key={}",
        "llama-server --api-key '{}' -c 4",
        'vllm serve --api-key "{}"',
        "--hf-token {}",
        "-hft {}",
        "LLAMA_API_KEY={}",
        "Environment=LLAMA_API_KEY={} HF_TOKEN=x",
        "export AWS_SECRET_ACCESS_KEY={}",
        "http://admin:{}@10.0.0.2:8080/v1",
        "https://{}@example.org/",
        "GET /v1?api_key={}&n=3",
        "Authorization: Bearer {}",
        "proxy_set_header Authorization 'Bearer {}';",
        "X-Api-Key: {}",
        '{{"api_key": "{}"}}',
        "password: {}",
        "password={}",
        "..auth.token={}",
        "é.key={}",
        "-a.-b.api_key: {}",
        "sk-{}abcdefghijkl",
        "hf_{}abcdefghijklmn",
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str) -> None:
    planted = PLANTED.replace("-", "") if "_{}" in text else PLANTED
    found = Redactor()(text.format(planted))
    assert planted not in found
    assert HIDDEN in found


@pytest.mark.parametrize(
    "text",
    [
        "128 tokens",
        "4.1k/8.2k tokens, 3 tokens/s",
        "--cache-type-k q8_0",
        "wants an API key; name the variable that holds it as api_key_env in a cluster file",
        "--api-key-file /etc/llama/keys",
        "unknown key: 'node'",
        "http://127.0.0.1:37080/v1",
        "ops@node1:22",
        "node1/gpu0 generates 512 tokens: slow",
        "the host key of node2 has changed",
        "ssh: no key is accepted",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert Redactor()(text) == text


@pytest.mark.parametrize(
    "part",
    ["a.", "a-", "--a-", "a+", "a://", "key=", "key ", "--key  ", "authorization ", "bearer ", " "],
)
def test_a_long_hostile_text_takes_no_longer_than_its_length(part: str) -> None:
    text = f"authorization{part * 50_000}key {part * 50_000}://"
    begin = time.process_time()
    Redactor()(text)
    assert time.process_time() - begin < 30


def test_a_secret_that_is_known_is_hidden_wherever_it_stands() -> None:
    redactor = Redactor(["correct-horse"])
    assert redactor("it said: correct-horse!") == f"it said: {HIDDEN}!"
    redactor.hide(["battery", "ab"])
    assert redactor("battery correct-horse ab") == f"{HIDDEN} {HIDDEN} ab"


def planted(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """`value` with the secret in one text after the other, each with where that is."""
    if isinstance(value, str):
        yield path, f"{value} --api-key {PLANTED} http://user:{PLANTED}@host API_KEY={PLANTED}"
    elif isinstance(value, Struct):
        for field in fields(value):
            for where, changed in planted(getattr(value, field.name), f"{path}.{field.name}"):
                yield where, replace(value, **{field.name: changed})
    elif isinstance(value, tuple):
        for place, item in enumerate(value):
            for where, changed in planted(item, f"{path}[{place}]"):
                yield where, (*value[:place], changed, *value[place + 1 :])
    elif isinstance(value, dict):
        for key, item in value.items():
            for where, changed in planted(item, f"{path}[{key}]"):
                yield where, {**value, key: changed}
            for where, changed in planted(key, f"{path}.key({key})"):
                yield where, {**{k: v for k, v in value.items() if k != key}, changed: item}


def whole() -> ClusterSnapshot:
    """A snapshot in which each text there can be is there."""
    snapshot = clusters.ill()
    node = Node(
        "node1", "ops@node1", "http://x", ("*",), (Worker("u", "http://x", "m:1", "LLAMA_API_KEY"),)
    )
    balancer = Balancer("node1", "llama_cluster", test=("nginx", "-t"), reload=("nginx",))
    nodes = tuple(one for one in snapshot.cluster.nodes if one.name != "node1")
    seen = snapshot.nodes[0]
    left = LeftDrained("u", "a:1", "plan", "who", "what", 3)
    drawn = snapshot.balancer
    assert drawn is not None
    tunnel = Tunnel("L", "127.0.0.1:1", "127.0.0.1:2", "node2", 3, "u")
    held = LoadedModel("m:1b", 2, 1, 4096, 900.0, None, False, "1B", "Q4", "12", (0,))
    instance = replace(
        snapshot.workers[0],
        hints=("lacks m:2b",),
        membership_fault="why",
        sample=replace(
            snapshot.workers[0].sample,
            engine="ollama",
            model_names=("m:1b",),
            loaded=(held,),
            present={"m:1b": "digest"},
            adapters=("sql",),
            adapters_busy=("sql",),
            engines=(EngineLoad("0", 1, 1, 5.0),),
            read_at_seconds=600.0,
        ),
    )
    noted = replace(seen.snapshot, faults={"host": "why"}, tunnels=(tunnel,), balancer=drawn)
    return replace(
        snapshot,
        cluster=replace(snapshot.cluster, nodes=(node, *nodes), balancer=balancer),
        workers=(instance, *snapshot.workers[1:]),
        nodes=(replace(seen, snapshot=noted, fault="why"), *snapshot.nodes[1:]),
        balancer=replace(drawn, left=(left,), config_error="why", fault="why"),
        events=(Event(snapshot.taken_at, "info", "text", "node1", "node1/gpu0"),),
    )


def test_a_secret_planted_in_any_text_of_a_snapshot_does_not_get_into_the_file(
    tmp_path: Path,
) -> None:
    recorder = Recorder(tmp_path / "a")
    places = []
    for place, snapshot in planted(whole()):
        recorder.take(snapshot)
        places.append(place)
    recorder.close()
    assert len(places) > 170
    for new in (
        "loaded[0].name",
        "present.key(m:1b)",
        "adapters[0]",
        "hints[0]",
        "engines[0].engine",
    ):
        assert any(place.endswith(new) for place in places), new
    text = bz2.decompress((tmp_path / "a").read_bytes()).decode()
    assert PLANTED not in text
    assert HIDDEN in text
    assert "LLAMA_API_KEY" not in text
