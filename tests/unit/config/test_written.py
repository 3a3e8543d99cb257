"""A cluster file that llamatop writes says what was declared and seen, whatever that is."""

from __future__ import annotations

import errno
import os
import stat
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llamatop import config
from llamatop.config import placing
from llamatop.config.schema import FILE, schema
from llamatop.config.written import written
from llamatop.errors import Refused, UsageError
from llamatop.model.cluster import ClusterSnapshot, GpuView, MemberView, NodeView, WorkerView
from llamatop.model.declared import Balancer, Cluster, Node, Silence, Worker
from llamatop.model.observed import GpuSample, NodeSnapshot, Tunnel, UnitState, WorkerSample
from llamatop.model.rules import IDS

NOW = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)
HOSTILE = ['evil\n[[node]]\nname = "x"', "\x1b[2J", "\u202e", "'''\"\"\"", "\udcff", "é # = ["]


def view(name: str, node: str, unit: str, **sample: object) -> WorkerView:
    return WorkerView(
        name,
        node,
        UnitState(unit, kind="worker"),
        WorkerSample(unit, engine="llama-server", **sample),  # type: ignore[arg-type]
    )


def seen(cluster: Cluster, workers: tuple[WorkerView, ...] = (), text: str = "") -> ClusterSnapshot:
    """Every node reached but the last of several."""
    nodes = []
    for place, node in enumerate(cluster.nodes):
        snapshot = NodeSnapshot(
            node.name,
            tunnels=(Tunnel("L", f"127.0.0.1:1{text}", "127.0.0.1:2", "node2"),),
        )
        reached = place == 0 or place < len(cluster.nodes) - 1
        nodes.append(NodeView(node.name, snapshot, reached, 0.1, fault=text or None))
    gpus = (GpuView("node1", GpuSample("u", name=text or "Tesla P40")),)
    return ClusterSnapshot(cluster, NOW, 2, tuple(nodes), gpus, workers)


def back(text: str, directory: Path) -> Cluster:
    path = directory / "written.toml"
    path.write_text(text, encoding="utf-8")
    jsonschema.Draft7Validator(schema()).validate(tomllib.loads(text))
    return config.load(path)


TWO = Cluster("two", (Node("node1", ssh="node1"), Node("node2", ssh="ops@10.0.0.12:2222")))

NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="/*?[]-"),
    min_size=1,
    max_size=12,
)
PLAIN = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
WORKERS = st.builds(
    Worker,
    unit=PLAIN.map("{}.service".format),
    url=st.none() | PLAIN.map("http://{}:8080".format),
    member=st.none(),
    api_key_env=st.none() | PLAIN.map(str.upper),
)
NODES = st.builds(
    Node,
    name=NAMES,
    ssh=PLAIN,
    units=st.lists(NAMES, max_size=2).map(tuple),
    workers=st.lists(WORKERS, max_size=2, unique_by=lambda worker: worker.unit).map(tuple),
) | st.builds(Node, name=NAMES, url=PLAIN.map("https://{}".format))
SILENCES = st.builds(
    Silence,
    rule=st.sampled_from(IDS),
    place=st.sampled_from(["*", "node1/*", "node[12]:GPU?"]),
    reason=st.none() | NAMES,
)
CLUSTERS = st.builds(
    Cluster,
    name=NAMES,
    nodes=st.lists(NODES, min_size=1, max_size=3, unique_by=lambda node: node.name).map(tuple),
    interval_seconds=st.sampled_from([0.5, 1.0, 60.0]),
    silences=st.lists(SILENCES, max_size=2).map(tuple),
)


@given(CLUSTERS, st.sampled_from(["", *HOSTILE]), st.booleans())
def test_what_was_declared_reads_back(
    tmp_path_factory: pytest.TempPathFactory, cluster: Cluster, text: str, balanced: bool
) -> None:
    if balanced and cluster.nodes[0].ssh:
        cluster = replace(cluster, balancer=Balancer(cluster.nodes[0].name, "up", test=("a b",)))
    directory = tmp_path_factory.getbasetemp()
    again = back(written(seen(cluster, text=text)), directory)
    assert replace(again, path=None) == cluster


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_node_says_stays_a_comment(text: str, tmp_path: Path) -> None:
    workers = (
        view(f"node1/{text}", "node1", text, url=text, model=text),
        view(f"node1/{text}2", "node1", f"{text}2", health="unauthorized"),
    )
    snapshot = replace(
        seen(TWO, workers, text),
        balancer_node="node1",
        members=(MemberView(text, text, "in", None),),
    )
    made = written(snapshot)
    assert "\x1b" not in made
    again = back(made, tmp_path)
    assert [node.name for node in again.nodes] == ["node1", "node2"]
    assert again.balancer is None


def test_the_upstream_of_these_workers_is_written(tmp_path: Path) -> None:
    members = (
        MemberView("other", "10.0.0.9:80", "in"),
        MemberView("other", "10.0.0.9:81", "in"),
        MemberView("llama", "127.0.0.1:37081", "down", "node1/gpu0"),
    )
    snapshot = replace(
        seen(TWO, (view("node1/gpu0", "node1", "llama-server-gpu0.service"),)),
        balancer_node="node1",
        members=members,
    )
    made = written(snapshot)
    assert back(made, tmp_path).balancer == Balancer("node1", "llama")
    assert "#   127.0.0.1:37081  → node1/gpu0  down\n" in made
    assert "other upstreams there: other" in made


def test_a_key_is_named_and_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_API_KEY", "sk-0123456789abcdef")
    unit = "llama-server-gpu0.service"
    made = written(seen(TWO, (view("node1/gpu0", "node1", unit, health="unauthorized"),)))
    assert back(made, tmp_path).nodes[0].workers == (Worker(unit, api_key_env="LLAMA_API_KEY"),)
    assert "sk-0123" not in made


def test_a_member_in_doubt_is_asked_for(tmp_path: Path) -> None:
    unit = "llama-server-gpu0.service"
    doubt = replace(view("node1/gpu0", "node1", unit), membership_fault="perhaps 127.0.0.1:37083")
    made = written(seen(TWO, (doubt,)))
    assert back(made, tmp_path).nodes[0].workers == ()
    asked = "\n".join(
        line.removeprefix("# ")
        for line in made.splitlines()
        if line.startswith(("# [[node.worker]]", "# unit =", "# member ="))
    )
    table = tomllib.loads(asked)["node"]["worker"][0]
    assert table == {"unit": "llama-server-gpu0", "member": "ADDRESS"}


def test_what_could_not_be_read_says_why() -> None:
    assert "# node2 could not be read:\n#   it refused\n" in written(seen(TWO, text="it refused"))


def test_its_own_files_are_named_from_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    inside, outside = tmp_path / "in" / "ssh_config", tmp_path / "known_hosts"
    inside.write_text("")
    cluster = replace(TWO, ssh_config=inside, known_hosts=outside)
    table = tomllib.loads(written(seen(cluster), tmp_path / "in"))
    assert (table["ssh_config"], table["known_hosts"]) == ("ssh_config", str(outside))
    assert tomllib.loads(written(seen(cluster)))["ssh_config"] == str(inside)


def test_the_schema_is_named_where_it_lies_beside(tmp_path: Path) -> None:
    assert not written(seen(TWO), tmp_path).startswith("#:schema")
    (tmp_path / FILE).write_text("{}")
    assert written(seen(TWO), tmp_path).startswith(f"#:schema {FILE}\n")


# --- its place ---------------------------------------------------------------------------------


def test_it_is_placed_whole_and_readable(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    before = os.umask(0o022)
    try:
        placing.place(path, "é\n")
    finally:
        os.umask(before)
    assert path.read_text("utf-8") == "é\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_another_file_is_not_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text("mine")
    with pytest.raises(Refused, match="there already"):
        placing.place(path, "new")
    assert path.read_text() == "mine"
    placing.place(path, "new", overwrite=True)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_it_is_placed_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", none)
    path = tmp_path / "cluster.toml"
    placing.place(path, "é\n")
    assert path.read_text("utf-8") == "é\n"
    monkeypatch.setattr(placing, "check", lambda *_: None)
    with pytest.raises(Refused, match="there already"):
        placing.place(path, "somebody was quicker")
    assert path.read_text("utf-8") == "é\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_written_through_when_asked(tmp_path: Path) -> None:
    (tmp_path / "real.toml").write_text("old")
    link = tmp_path / "cluster.toml"
    link.symlink_to("real.toml")
    with pytest.raises(Refused):
        placing.place(link, "new")
    placing.place(link, "new", overwrite=True)
    assert link.is_symlink()
    assert (tmp_path / "real.toml").read_text() == "new"


def test_where_no_file_can_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a directory"):
        placing.place(tmp_path, "new")
    with pytest.raises(UsageError, match="no directory"):
        placing.place(tmp_path / "missing" / "cluster.toml", "new")
