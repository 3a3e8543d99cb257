"""Completion: what the real shells make of a line, and where its words come from."""

from __future__ import annotations

import itertools
import os
import pty
import re
import select
import shutil
import stat
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from argcomplete.finders import CompletionFinder

from llamatop.cli import completion, seen
from llamatop.cli.parser import build
from llamatop.model.cluster import ClusterSnapshot, NodeView, WorkerView
from llamatop.model.declared import Cluster, Node
from llamatop.model.observed import NodeSnapshot, UnitState, WorkerSample

CLUSTER = '[[node]]\nname = "node1"\nssh = "node1"\n[[node]]\nname = "edge"\nssh = "edge"\n'


def snapshot(file: Path | None, names: list[str], unread: tuple[str, ...] = ()) -> ClusterSnapshot:
    nodes = sorted({name.partition("/")[0] for name in names} | set(unread))
    return ClusterSnapshot(
        cluster=Cluster("c", tuple(Node(node, ssh=node) for node in nodes), path=file),
        taken_at=datetime.now(UTC),
        tick=2,
        nodes=tuple(
            NodeView(node, NodeSnapshot(node), reachable=node not in unread, age_seconds=0.1)
            for node in nodes
        ),
        workers=tuple(
            WorkerView(name, name.partition("/")[0], UnitState("u.service"), WorkerSample("u"))
            for name in names
        ),
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clean home with a cluster that was read before, and an ssh configuration."""
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "_ARGCOMPLETE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    here = tmp_path / "work"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "cluster.toml").write_text(CLUSTER)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text("Host alpha *.lab\nHost beta\n")
    seen.remember(snapshot(Path("cluster.toml"), ["node1/gpu0", "node1/gpu1", "edge/single"]))
    return tmp_path


def offered(line: str) -> list[str]:
    """What may stand where the line ends."""
    finder = CompletionFinder(
        completion.parsers(), always_complete_options=False, append_space=False
    )
    line = line.removeprefix("llamatop ")
    start = len(line) - len(re.split(r"[ =]", line)[-1])
    found = iter(lambda: finder.rl_complete(line, next(count)), None)
    count = itertools.count()
    return [str(whole)[start:] for whole in found]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("llamatop dra", ["drain"]),
        ("llamatop drain ", ["node1/gpu0", "node1/gpu1", "edge/single", r"node1/\*"]),
        ("llamatop drain node1/gpu0 edge", ["edge/single"]),
        ("llamatop drain --dry-run node1/gpu1 node1/gpu", ["node1/gpu0"]),
        ("llamatop restart --on-timeout ", ["undo", "wait", "force"]),
        ("llamatop -c cluster.toml logs ed", ["edge/single"]),
        ("llamatop -c ", ["cluster.toml"]),
        ("llamatop status --ssh-config ../.ssh/config a", ["alpha"]),
        ("llamatop status -c cluster.toml ", ["node1", "edge"]),
        ("llamatop --ssh-config ../.ssh/config al", ["alpha"]),
        ("llamatop demo --fault hot", ["hot-gpu"]),
        ("llamatop completion ", ["bash", "zsh", "fish"]),
        ("llamatop roll --at", ["--at-once"]),
        ("llamatop sudoers --node e", ["edge"]),
    ],
)
@pytest.mark.usefixtures("home")
def test_what_a_line_can_go_on_with(line: str, words: list[str]) -> None:
    assert sorted(offered(line)) == sorted(words)


@pytest.mark.usefixtures("home")
def test_themes_are_offered() -> None:
    assert "altiplano" in offered("llamatop --theme ")


def test_every_value_is_known_or_the_persons_own() -> None:
    """A metavar that nobody thought of completes nothing: say here that this is meant."""
    own = {"S", "N", "M", "K", "TEXT", None}
    for name, parser in build()[1].items():
        for action in parser._actions:
            if action.nargs != 0 and not action.choices:
                metavar = action.metavar if isinstance(action.metavar, str) else None
                assert metavar in own | set(completion.VALUES), (name, action.dest)


# --- the real shells ---------------------------------------------------------------------------

SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(llamatop completion bash)"\n'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -Uz compinit; compinit -u -D; eval "$(llamatop completion zsh)"\n',
    ),
    "fish": (["fish", "--no-config", "-i"], "llamatop completion fish | source\n"),
}


LINES = {
    "llamatop drain edge/": ["llamatop", "drain", "edge/single"],
    "llamatop logs 'edge/s": ["llamatop", "logs", "edge/single"],
    "llamatop stop node1/gpu0 node1/gpu1 n": [
        *("llamatop", "stop", "node1/gpu0", "node1/gpu1", "node1/*")
    ],
    "llamatop -c clu": ["llamatop", "-c", "cluster.toml"],
    "llamatop undr": ["llamatop", "undrain"],
    "llamatop demo --fault=hot": ["llamatop", "demo", "--fault=hot-gpu"],
}


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.usefixtures("home")
def test_tab_in_a_real_shell(shell: str) -> None:
    """The words that a line has once Tab was pressed, as the shell itself then splits them."""
    argv, setup = SHELLS[shell]
    if shutil.which(argv[0]) is None:
        pytest.skip(f"{argv[0]} is not installed")
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "dumb"
        os.execvp(argv[0], argv)
    said = b""

    def until(mark: bytes) -> None:
        nonlocal said
        end = time.monotonic() + 60
        while mark not in said:
            if not select.select([terminal], [], [], max(0, end - time.monotonic()))[0]:
                pytest.fail(f"{shell} did not say {mark!r}: {said!r}")
            said += os.read(terminal, 65536)

    try:
        os.write(terminal, setup.encode() + b"printf 're%s\\n' ady\n")
        until(b"ready\r")
        for line, words in LINES.items():
            said = b""
            # Tab, then to the start of the line, to have its words shown instead.
            rest = b"\t\x01printf '{%s}' \x05 ; printf 'do%s\\n' ne\n"
            os.write(terminal, line.encode() + rest)
            until(b"done\r")
            shown = re.findall(r"{([^{}]*)}", said.decode())
            assert [word for word in shown if word != "%s"] == words
    finally:
        os.close(terminal)
        os.kill(pid, 9)
        os.waitpid(pid, 0)


# --- what is kept ------------------------------------------------------------------------------


def test_what_was_seen_is_the_persons_own_and_by_file(home: Path) -> None:
    (kept,) = (home / ".cache" / "llamatop").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    other = home / "other.toml"
    other.write_text(CLUSTER)
    seen.remember(snapshot(other, ["node1/else"]))
    assert seen.recall(other) == {"node1": ["node1/else"]}
    assert seen.recall(Path("cluster.toml"))["edge"] == ["edge/single"]


def test_a_node_that_was_not_read_keeps_its_workers(home: Path) -> None:
    file = Path("cluster.toml")
    seen.remember(snapshot(file, ["node1/new"], unread=("edge",)))
    assert seen.recall(file) == {"node1": ["node1/new"], "edge": ["edge/single"]}


def test_a_look_at_some_nodes_forgets_no_other(home: Path) -> None:
    seen.remember(snapshot(home / "work" / ".." / "work" / "cluster.toml", ["edge/other"]))
    assert offered("llamatop logs edge") == ["edge/other"]
    assert offered("llamatop logs node1/gpu0") == ["node1/gpu0"]


def test_a_node_that_left_the_file_is_not_offered(home: Path) -> None:
    (home / "work" / "cluster.toml").write_text('[[node]]\nname = "edge"\nssh = "edge"\n')
    assert offered("llamatop logs ") == ["edge/single"]
    assert offered("llamatop -c ~/work/cluster.toml logs ") == ["edge/single"]


def test_what_is_kept_of_a_file_that_is_gone_goes(home: Path) -> None:
    gone = home / "gone.toml"
    gone.write_text(CLUSTER)
    seen.remember(snapshot(gone, ["node1/a"]))
    gone.unlink()
    seen.remember(snapshot(Path("cluster.toml"), ["node1/b"]))
    assert seen.recall(gone) == {}
    assert seen.recall(Path("cluster.toml"))["node1"] == ["node1/b"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"nodes": 3}', '{"nodes": {"n": 3}}', "\0\xff"])
def test_a_broken_cache_is_no_names(home: Path, text: str) -> None:
    (kept,) = (home / ".cache" / "llamatop").iterdir()
    kept.write_text(text)
    assert seen.recall(Path("cluster.toml")) == {}
    seen.remember(snapshot(Path("cluster.toml"), ["node1/b"]))
    assert seen.recall(Path("cluster.toml")) == {"node1": ["node1/b"]}


def test_a_name_that_a_shell_would_act_upon_is_not_offered(home: Path) -> None:
    file = home / "names.toml"
    file.write_text(CLUSTER)
    bad = ["node1/$(touch x)", "node1/a b", "node1/`id`", "node1/\x1b[2J", "node1/'"]
    seen.remember(snapshot(file, [*bad, "node1/good@1"]))
    assert seen.recall(file) == {"node1": ["node1/good@1"]}


def test_a_home_that_cannot_be_written_costs_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "file"))
    seen.remember(snapshot(None, ["node1/b"]))
    assert seen.recall(None) == {}
