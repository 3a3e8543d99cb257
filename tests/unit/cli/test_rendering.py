"""`status` in its two forms, from a snapshot built of model objects."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from llamatop.advise.doctor import Diagnosis
from llamatop.advise.finding import Finding
from llamatop.cli import render_findings
from llamatop.cli.render_json import to_line
from llamatop.cli.render_line import summary
from llamatop.cli.render_table import print_status
from llamatop.model.cluster import ClusterSnapshot, NodeView, WorkerView
from llamatop.model.declared import Cluster, Node
from llamatop.model.observed import (
    EngineLoad,
    LoadedModel,
    NodeSnapshot,
    Slot,
    UnitState,
    WorkerSample,
)
from llamatop.model.text import plain
from tests.screens import clusters

AT = datetime(2026, 11, 21, 2, 0, 0, 7999, tzinfo=UTC)
EVIL = "\x1b]0;owned\x07[red]evil\u202e\ud800"


def snapshot() -> ClusterSnapshot:
    one = clusters.worker(
        "node1",
        "gpu0",
        (0,),
        busy=1,
        model="tiny",
        generation_tokens_per_second=54.123,
        prompt_tokens_per_second=0.0,
        generation_tokens_total=123456.0,
    )
    card = replace(clusters.card("node1", 0), utilization_percent=96.0, power_watts=172.0)
    edge = WorkerView(
        "edge/llama-server", "edge", UnitState("llama-server"), WorkerSample("llama-server")
    )
    made = clusters.assemble(
        (clusters.node("node1"), NodeView("edge", NodeSnapshot("edge"), False, None, "refused")),
        (clusters.gpu(card, "node1", "node1/gpu0"),),
        (one, edge),
        (clusters.event(7, "warning", "lost", "edge"),),
    )
    nodes = (Node("node1", "node1"), Node("edge", url="http://10.0.0.20:8080"))
    return replace(made, taken_at=AT, cluster=replace(made.cluster, nodes=nodes))


def shape(value: object) -> object:
    """The keys in order, without the values."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return None


KEYS: dict[str, Any] = {
    "cluster": None,
    "taken_at": None,
    "healthy": None,
    "totals": dict.fromkeys(
        (
            "generation_tokens_per_second",
            "prompt_tokens_per_second",
            "slots_busy",
            "slots_total",
            "requests_deferred",
        )
    ),
    "nodes": [
        {
            "name": None,
            "reachable": None,
            "age_seconds": None,
            "fault": None,
            "next_try_seconds": None,
            "host": dict.fromkeys(
                ("cpu_percent", "memory_used_bytes", "memory_total_bytes", "load1")
            ),
            "gpus": [
                {
                    **dict.fromkeys(("index", "uuid", "name", "utilization_percent")),
                    **dict.fromkeys(("memory_used_bytes", "memory_total_bytes", "power_watts")),
                    **dict.fromkeys(("power_limit_watts", "temperature_celsius")),
                    "workers": [None],
                    "fault": None,
                }
            ],
            "workers": [
                {
                    **dict.fromkeys(("name", "unit", "engine", "url", "unit_state")),
                    **dict.fromkeys(("unit_sub_state", "restarts", "main_pid", "since")),
                    **dict.fromkeys(("health", "model")),
                    "gpus": [None],
                    **dict.fromkeys(("topology", "slots_total", "slots_busy", "context_tokens")),
                    **dict.fromkeys(("requests_deferred", "generation_tokens_per_second")),
                    **dict.fromkeys(("prompt_tokens_per_second", "generation_tokens_total")),
                    **dict.fromkeys(("membership", "fault")),
                    "hints": [],
                    **dict.fromkeys(("loaded_models", "models_on_disk", "kv_cache_percent")),
                    **dict.fromkeys(("first_token_seconds", "preemptions_total", "lora_adapters")),
                    "engines": [],
                    "fit": {
                        "missing": [None],
                        **dict.fromkeys(("weights_bytes", "kv_cache_bytes", "compute_bytes")),
                        **dict.fromkeys(("overhead_bytes", "spare_bytes", "total_bytes")),
                        **dict.fromkeys(("gpu", "room_bytes")),
                        **dict.fromkeys(("fits_one_card", "slots", "slot_context_tokens")),
                        **dict.fromkeys(("slots_would_fit", "slot_context_tokens_would_fit")),
                        **dict.fromkeys(("cards", "taken_bytes", "host_bytes")),
                        **dict.fromkeys(("busy_percent_at_most", "split_bytes")),
                    },
                }
            ],
        }
    ],
    "balancer": {
        **dict.fromkeys(("node", "kind", "upstream", "config_valid", "reload_pending")),
        "members": [dict.fromkeys(("upstream", "address", "state", "worker", "weight"))],
    },
    "events": [dict.fromkeys(("at", "severity", "node", "worker", "text"))],
}


def ordered(value: object) -> str:
    return json.dumps(value)


def test_the_json_has_the_contracts_keys_in_its_order() -> None:
    assert ordered(shape(json.loads(to_line(snapshot())))) == ordered(KEYS)


def test_the_json_has_the_contracts_values() -> None:
    value = json.loads(to_line(snapshot()))
    assert value["taken_at"] == "2026-11-21T02:00:00.007Z"
    assert value["totals"]["generation_tokens_per_second"] == 54.12
    worker = value["nodes"][0]["workers"][0]
    assert worker["since"] == "2026-11-21T00:07:07.000Z"
    assert worker["generation_tokens_total"] == 123456
    assert isinstance(worker["generation_tokens_total"], int)
    assert worker["gpus"] == [0]
    assert value["nodes"][0]["host"]["cpu_percent"] == 12.0
    edge = value["nodes"][1]
    assert edge["fault"] == "refused"
    assert edge["workers"][0]["unit"] is None
    assert edge["workers"][0]["gpus"] is None
    assert edge["host"]["cpu_percent"] is None
    assert edge["age_seconds"] is None


def test_an_ollamas_models_and_a_vllms_engines_are_told() -> None:
    model = LoadedModel(
        "qwen2.5:32b", 100, 60, 8192, expires_at_seconds=1250.0, parameters="32.8B", slots=(0, 1)
    )
    ollama = WorkerSample(
        "ollama.service",
        engine="ollama",
        loaded=(model, LoadedModel("x", forever=True)),
        present={"b": "1", "a": ""},
        slots=(Slot(0, True), Slot(1, False)),
        read_at_seconds=1000.0,
    )
    vllm = WorkerSample(
        "vllm.service",
        engine="vllm",
        kv_cache_percent=62.5,
        preemptions_total=3,
        first_token_seconds=0.25,
        adapters=("sql",),
        engines=(EngineLoad("0", 4, 2, 90.0),),
    )
    views = tuple(
        WorkerView(f"node1/{sample.engine}", "node1", UnitState(sample.unit), sample, hints=("h",))
        for sample in (ollama, vllm)
    )
    value = json.loads(to_line(replace(snapshot(), workers=views)))
    first, second = value["nodes"][0]["workers"]
    assert first["hints"] == ["h"]
    assert first["models_on_disk"] == ["a", "b"]
    assert first["loaded_models"][0] == {
        "name": "qwen2.5:32b",
        "size_bytes": 100,
        "gpu_bytes": 60,
        "cpu_bytes": 40,
        "context_tokens": 8192,
        "expires_in_seconds": 250.0,
        "loading": False,
        "slots_total": 2,
        "slots_busy": 1,
    }
    assert first["loaded_models"][1]["expires_in_seconds"] is None
    assert first["loaded_models"][1]["slots_total"] is None
    assert first["engines"] == []
    assert (second["loaded_models"], second["models_on_disk"]) == (None, None)
    assert second["kv_cache_percent"] == 62.5
    assert second["first_token_seconds"] == 0.25
    assert second["preemptions_total"] == 3
    assert second["lora_adapters"] == ["sql"]
    assert second["engines"] == [
        {"engine": "0", "requests_running": 4, "requests_deferred": 2, "kv_cache_percent": 90.0}
    ]


def test_without_a_balancer_it_is_null() -> None:
    bare = replace(snapshot(), cluster=Cluster("x", snapshot().cluster.nodes))
    assert json.loads(to_line(bare))["balancer"] is None


def test_one_line_is_one_line_and_any_text_can_be_encoded() -> None:
    evil = replace(snapshot(), cluster=replace(snapshot().cluster, name=EVIL + "\n"))
    line = to_line(evil)
    assert "\n" not in line
    assert "\x1b" not in line
    line.encode("utf-8")


def printed(value: ClusterSnapshot, terminal: bool = False) -> str:
    out = io.StringIO()
    if terminal:
        out.isatty = lambda: True  # type: ignore[method-assign]  # a terminal for rich
    print_status(value, out)
    return out.getvalue()


def test_the_table_shows_every_part_without_colour_in_a_file() -> None:
    text = printed(snapshot())
    for word in ("p40-2x2", "node1/gpu0", "54.1", "96 %", "172/250W", "18.2/24.0G", "1/2", "lost"):
        assert word in text
    assert "127.0.0.1:37080" in text
    assert "–" in text
    assert "\x1b" not in text
    assert "! edge: refused" in text
    hinted = replace(snapshot().workers[0], hints=("runs on the CPU",))
    told = printed(replace(snapshot(), workers=(hinted,)))
    assert "! node1/gpu0: runs on the CPU" in told


def test_strings_from_nodes_neither_style_nor_control_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    value = snapshot()
    evil = replace(
        value.workers[0], sample=replace(value.workers[0].sample, model=EVIL, fault=EVIL)
    )
    text = printed(replace(value, workers=(evil,)), terminal=True)
    assert "\x1b]0" not in text
    assert "\u202e" not in text
    assert "\x07" not in text
    text.encode("utf-8")
    assert "[red]" in printed(replace(value, workers=(evil,)))
    assert "\x1b" not in summary(replace(value, workers=(evil,)))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain – text", "plain – text"),
        ("a\x1b[2Jb", "a␛[2Jb"),
        ("a\nb\tc\x7f", "a␊b␉c␡"),
        ("\x9b2J", "\\x9b2J"),
        ("a\u202eb\u200bc\u2066", "a\\u202eb\\u200bc\\u2066"),
        ("\ud800", "\ufffd"),
        ("日本語", "日本語"),
    ],
)
def test_plain_text(text: str, shown: str) -> None:
    assert plain(text) == shown


def found(place: str, evidence: str = "UnitFileState=disabled", mend: str = "enable it") -> Finding:
    return Finding("unit-not-enabled", "warning", place, evidence, "a reboot loses it", mend)


def test_findings_of_many_places_are_told_once() -> None:
    findings = (found("node1/gpu0"), found("node1/gpu1"), found(f"edge:{EVIL}", EVIL, "other"))
    out = io.StringIO()
    render_findings.print_findings(Diagnosis(findings, silenced=2, rules=9, nodes=2), out)
    text = out.getvalue()
    assert text.isprintable() or "\x1b" not in text
    assert text.count("a reboot loses it") == 1
    assert "unit-not-enabled  3 places" in text
    assert "node1/gpu0, node1/gpu1: UnitFileState=disabled" in text
    assert "node1/gpu0, node1/gpu1: enable it" in text


def test_where_all_is_well_nothing_is_printed_and_one_line_says_what_was_looked_at() -> None:
    out = io.StringIO()
    well = Diagnosis(rules=9, nodes=2)
    render_findings.print_findings(well, out)
    assert out.getvalue() == ""
    assert render_findings.summary(well, 0) == "nothing found: 9 rules over 2 nodes"
    assert (
        render_findings.summary(Diagnosis((found("a"),), 2, 9, 2), 1)
        == "1 warning: 9 rules over 1 node, 2 silenced"
    )


def test_what_is_said_of_a_whole_fleet_stays_a_few_lines() -> None:
    many = tuple(
        replace(found(f"n{n}/gpu{card}"), evidence=f"{n} of {card}", mend=f"mend {n} {card}")
        for n in range(64)
        for card in range(8)
    )
    out = io.StringIO()
    render_findings.print_findings(Diagnosis(many, rules=9, nodes=64), out)
    assert "512 places" in out.getvalue()
    assert "and 508 more: n0/gpu4," in out.getvalue()
    assert "and 496 more; llamatop doctor --json tells of each" in out.getvalue()
    assert len(out.getvalue().splitlines()) < 20
    alike = tuple(replace(one, evidence="so", mend="mend") for one in many)
    out = io.StringIO()
    render_findings.print_findings(Diagnosis(alike, rules=9, nodes=64), out)
    assert "n1/gpu3 and 500 more: so" in out.getvalue().replace("\n    ", " ")


def test_findings_as_json_are_one_a_place() -> None:
    findings = (found("node1/gpu0"), found("edge"), found("elsewhere", EVIL))
    told = json.loads(render_findings.to_json(Diagnosis(findings, 1, 9, 2), snapshot()))
    assert [(one["place"], one["node"], one["worker"]) for one in told["findings"]] == [
        ("node1/gpu0", "node1", "node1/gpu0"),
        ("edge", "edge", None),
        ("elsewhere", None, None),
    ]
    assert set(told["findings"][0]) == {
        *("id", "severity", "place", "node", "worker", "evidence", "why", "mend")
    }
    assert (told["silenced"], told["rules"]) == (1, 9)
    assert told["unread"] == [{"node": "edge", "fault": "refused"}]
