"""All rules together: order, silence, a rule that fails, and what the places are of."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from llamatop.advise import doctor
from llamatop.advise.doctor import Places, grouped, judge
from llamatop.advise.finding import Finding
from llamatop.model.cluster import ClusterSnapshot, Severity
from llamatop.model.declared import Silence
from llamatop.model.rules import IDS
from tests.screens.clusters import fleet, well

ADVISE = Path(doctor.__file__).parent


def finding(id: str, place: str, severity: Severity = "warning", why: str = "why") -> Finding:
    return Finding(id, severity, place, f"{place} is so", why, "mend it")


def several(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    yield finding("unit-not-enabled", "node10/gpu0")
    yield finding("unit-not-enabled", "node2/gpu0")
    yield finding("host-key", "node3", "error")
    yield finding("unit-runs-as-root", "node1/gpu0", "info")


def broken(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    yield finding("tunnel-down", "node1:a.service", "error")
    raise KeyError("nothing of the kind")


def test_the_worst_come_first_then_places_as_people_count() -> None:
    found = judge(well(), (several,)).findings
    assert [one.place for one in found] == ["node3", "node2/gpu0", "node10/gpu0", "node1/gpu0"]


def test_a_rule_that_fails_is_told_and_ends_no_other() -> None:
    diagnosis = judge(well(), (broken, several))
    assert diagnosis.rules == 2
    (fault,) = diagnosis.faults
    assert "test_doctor.broken" in fault
    assert "KeyError" in fault
    assert {one.id for one in diagnosis.findings} >= {"tunnel-down", "host-key"}


def test_silence_is_by_rule_and_place_and_is_counted() -> None:
    snapshot = well()
    silences = (Silence("unit-not-enabled", "node2/*"), Silence("host-key", "node1"))
    quiet = replace(snapshot, cluster=replace(snapshot.cluster, silences=silences))
    diagnosis = judge(quiet, (several,))
    assert diagnosis.silenced == 1
    assert [one.place for one in diagnosis.findings] == ["node3", "node10/gpu0", "node1/gpu0"]


def test_it_is_well_where_there_are_remarks_alone() -> None:
    assert judge(well(), ()).well
    remark = (lambda snapshot: iter([finding("unit-runs-as-root", "node1/gpu0", "info")]),)
    assert judge(well(), remark).well
    assert not judge(well(), (several,)).well


def test_what_is_said_of_many_places_is_one_group() -> None:
    groups = grouped(judge(well(), (several,)).findings)
    assert [len(group.findings) for group in groups] == [1, 2, 1]


def test_a_place_is_of_a_node_and_perhaps_of_a_worker() -> None:
    places = Places(well())
    assert (places.node("node1/gpu0"), places.worker("node1/gpu0")) == ("node1", "node1/gpu0")
    unit = "node1:llama-server-gpu0.service"
    assert (places.node(unit), places.worker(unit)) == ("node1", "node1/gpu0")
    line = "node1:/etc/nginx/conf.d/llama.conf:12"
    assert (places.node(line), places.worker(line)) == ("node1", None)
    assert places.node("node1:GPU0") == "node1"
    assert places.node("elsewhere") is None


def test_the_clusters_of_the_screens_give_no_fault() -> None:
    assert judge(well()).faults == ()
    assert judge(fleet(4, 8, 40)).faults == ()


def test_every_id_that_a_rule_uses_can_be_silenced() -> None:
    used = set()
    for path in ADVISE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and node.value in IDS:
                used.add(node.value)
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding":
                first = node.args[0] if node.args else node.keywords[0].value
                if isinstance(first, ast.Constant):
                    assert first.value in IDS, f"{path.name}: {first.value}"
    assert used == set(IDS)
