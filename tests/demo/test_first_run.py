"""The first run on a terminal, over machines that answer: chosen, looked at, written, opened."""

from __future__ import annotations

import os
import pty
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llamatop import config
from llamatop.model.declared import Balancer

from .conftest import Demo

pytestmark = pytest.mark.slow


class Terminal:
    """llamatop on a terminal of 80 x 24."""

    def __init__(self, words: list[str], cwd: Path, environ: dict[str, str]) -> None:
        argv = [sys.executable, "-m", "llamatop.cli.main", *words]
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execve(argv[0], argv, environ)
        self.said = b""

    def until(self, text: str) -> None:
        end = time.monotonic() + 60
        while text.encode() not in self.said:
            if not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
                pytest.fail(f"{text!r} did not come: {self.said!r}")
            self.said += os.read(self.fd, 65536)

    def press(self, keys: str) -> None:
        self.said = b""
        os.write(self.fd, keys.encode())

    def end(self) -> int:
        try:
            while os.read(self.fd, 65536):
                pass
        except OSError:
            pass
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_from_nothing_to_the_dashboard(own_demo: Callable[..., Demo], tmp_path: Path) -> None:
    demo = own_demo()
    words = ["--ssh-config", str(demo.directory / "ssh_config")]
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TERM": "xterm-256color",
        "COLUMNS": "80",
        "LINES": "24",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    terminal = Terminal(words, tmp_path, environ)
    terminal.until("Which machines")
    terminal.press("\x1b[B  \r")
    terminal.until(" write")
    terminal.until("node2/split0")
    terminal.press("\r")
    terminal.until("write and open")
    written = tmp_path / ".config" / "llamatop" / "cluster.toml"
    assert not written.exists()
    terminal.press("\r")
    terminal.until("gen tok/s")
    terminal.until("split0")
    terminal.press("q")
    assert terminal.end() == 0
    cluster = config.load(written)
    assert [node.ssh for node in cluster.nodes] == ["node1", "node2"]
    assert cluster.balancer == Balancer("node1", "llama_cluster")
    assert cluster.ssh_config == demo.directory / "ssh_config"
