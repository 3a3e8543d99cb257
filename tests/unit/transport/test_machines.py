"""Which machine stands behind a node, and what ssh is asked for it."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from llamatop.errors import NodeError, Unreachable
from llamatop.model.declared import Cluster, Node
from llamatop.transport.local import LocalMachine
from llamatop.transport.machines import Machines
from llamatop.transport.ssh_config import SshOptions, answered, resolve

ME = getpass.getuser()


async def test_each_node_has_its_machine() -> None:
    nodes = (Node("here", ssh="local"), Node("there", ssh="there"), Node("edge", url="http://e"))
    machines = Machines(Cluster("c", nodes))
    assert isinstance(machines.machine("here"), LocalMachine)
    assert machines.machine("there").name == "there"
    assert machines.machine("there") is machines.machine("there")
    with pytest.raises(NodeError, match="edge: it has no ssh"):
        machines.machine("edge")
    with pytest.raises(KeyError):
        machines.machine("nowhere")
    await machines.close()
    await machines.close()


def test_options_of_the_command_line_win_over_the_file(tmp_path: Path) -> None:
    file, given = tmp_path / "file", tmp_path / "given"
    given.touch()
    cluster = Cluster("c", (Node("n", ssh="n"),), ssh_config=file)
    assert Machines(cluster).machine("n").shell_argv() == ["ssh", "-F", str(file), "-t", "--", "n"]
    argv = Machines(cluster, ssh_config=given, known_hosts=given).machine("n").shell_argv()
    known = f'UserKnownHostsFile="{given}"'
    assert argv == ["ssh", "-F", str(given), "-o", known, "-t", "--", "n"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("node1", (ME, "node1", 22)),
        ("ops@node1", ("ops", "node1", 22)),
        ("ops@10.0.0.12:2222", ("ops", "10.0.0.12", 2222)),
        ("node1:23", (ME, "node1", 23)),
        ("ssh://ops@node1:23", ("ops", "node1", 23)),
        ("[fe80::1]:23", (ME, "fe80::1", 23)),
        ("ops@[::1]", ("ops", "::1", 22)),
        ("fe80::1", (ME, "fe80::1", 22)),
        ("a@b@node1", ("a@b", "node1", 22)),
        ("NODE1", (ME, "node1", 22)),
    ],
)
def test_hosts_mean_what_they_look_like(
    text: str, meant: tuple[str, str, int], tmp_path: Path
) -> None:
    empty = tmp_path / "config"
    empty.touch()
    config = resolve("n", text, SshOptions(config=empty))
    assert (config.user, config.host, config.port) == meant


def test_what_ssh_said_last_is_kept_for_those_who_need_not_ask(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("Host there\n  HostName 10.0.0.12\n")
    options = SshOptions(file)
    assert answered("there", options, 0) is None
    asked = resolve("n", "there", options)
    assert answered("there", options, 0) is asked
    assert asked.host == "10.0.0.12"
    file.write_text("Host there\n  NoSuchWord 1\n")
    with pytest.raises(Unreachable):
        resolve("n", "there", options)
    assert answered("there", options, 30) is None
