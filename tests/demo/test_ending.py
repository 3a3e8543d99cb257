"""It leaves nothing behind, however it ends, and it takes nobody's files."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Demo, marked, start, until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_it(own_demo: Callable[..., Demo], number: int) -> None:
    demo = own_demo()
    address = demo.addresses["node1"]
    mark = demo.out("node1", "echo LLAMATOP_DEMO=$LLAMATOP_DEMO").strip()
    sockets = Path(mark.partition("=")[2])
    assert sockets.is_dir()
    command = "setsid sleep 300 & sleep 301 & exec journalctl -u llama-server-gpu0 -f"
    client = subprocess.Popen(
        ["ssh", "-F", str(demo.directory / "ssh_config"), "node1", command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert client.stdout is not None
    assert client.stdout.readline()
    until(lambda: len(marked(mark.encode())) >= 3)
    demo.end(number)
    until(lambda: not marked(mark.encode()))
    client.communicate(timeout=60)
    until(lambda: not sockets.exists())
    assert [path.name for path in demo.directory.iterdir()] == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address, 2222), timeout=2)


def test_a_connection_s_processes_end_with_it(own_demo: Callable[..., Demo]) -> None:
    demo = own_demo()
    mark = demo.out("node1", "echo LLAMATOP_DEMO=$LLAMATOP_DEMO").strip().encode()
    client = subprocess.Popen(
        ["ssh", "-F", str(demo.directory / "ssh_config"), "node1", "echo on; sleep 300; true"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert client.stdout is not None
    assert client.stdout.readline() == b"on\n"
    until(lambda: len(marked(mark)) == 2)
    client.kill()
    client.wait()
    client.stdout.close()
    until(lambda: not marked(mark))


def test_the_process_behind_the_dashboard_ends_with_its_input(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "llamatop.demo", str(tmp_path / "x")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"written\n"
    assert (tmp_path / "x" / "cluster.toml").exists()
    assert process.stdout.readline() == b"ready\n"
    process.stdin.close()
    assert process.wait(60) == 0
    process.stdout.close()


def test_a_directory_in_use_or_of_somebody_else_is_refused(
    own_demo: Callable[..., Demo], tmp_path: Path
) -> None:
    demo = own_demo()
    words = [sys.executable, "-m", "llamatop.cli.main", "demo", "--write"]
    second = subprocess.run([*words, demo.directory], capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert "another demo runs there" in second.stderr
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "cluster.toml").write_text("name = 'mine'\n")
    foreign = subprocess.run([*words, mine], capture_output=True, text=True, check=False)
    assert foreign.returncode == 2
    assert "is not a demo's" in foreign.stderr
    assert (mine / "cluster.toml").read_text() == "name = 'mine'\n"


def test_two_demos_run_at_once(own_demo: Callable[..., Demo]) -> None:
    first, second = own_demo("--nodes", "1", "--gpus", "1"), own_demo("--nodes", "3")
    assert len(second.addresses) == 3
    assert first.out("node1", "hostname") == second.out("node1", "hostname")
    assert not set(first.addresses.values()) & set(second.addresses.values())


def test_a_killed_demo_s_directory_can_be_used_again(tmp_path: Path) -> None:
    first = start(tmp_path / "d")
    first.end(signal.SIGKILL)
    again = start(tmp_path / "d")
    again.end()
