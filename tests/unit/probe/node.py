"""A node made of files: a /proc tree, stand-in tools on PATH, and workers on real sockets."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llamatop.collect import merge
from llamatop.probe import bundle

_SYSTEMCTL = """#!{python}
import os, sys, time
root = {root!r}
if os.path.exists(root + "/hang"):
    time.sleep(600)
names = sorted(os.listdir(root + "/units"))
if sys.argv[1] == "show":
    for name in sys.argv[sys.argv.index("--") + 1:]:
        if name in names:
            print(open(root + "/units/" + name).read() + "\\n")
        else:
            print("Id=%s\\nLoadState=not-found\\nActiveState=inactive\\nMainPID=0\\n" % name)
else:
    for name in names:
        print(name, "loaded active running")
"""


class FakeNode:
    """The files of a node under `root`; add processes and units, then `start` the real probe."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.proc = root / "proc"
        self.bin = root / "bin"
        for folder in (self.proc / "sys/kernel/random", self.bin, root / "units"):
            folder.mkdir(parents=True)
        self.tool("systemctl", _SYSTEMCTL.format(python=sys.executable, root=str(root)))
        files = {
            "stat": "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 50 0 50 400 0 0 0 0 0 0\n"
            "cpu1 50 0 50 400 0 0 0 0 0 0\nintr 0\n",
            "meminfo": "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 400 kB\n",
            "loadavg": "0.50 0.40 0.30 1/100 4242\n",
            "uptime": "1000.00 900.00\n",
            "sys/kernel/hostname": "fake\n",
            "sys/kernel/random/boot_id": "boot-1\n",
        }
        for name, text in files.items():
            (self.proc / name).write_text(text)

    def tool(self, name: str, text: str) -> None:
        """A program on the node's PATH."""
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def process(
        self,
        pid: int,
        words: list[str],
        unit: str = "",
        parent: int = 1,
        environment: dict[str, str] | None = None,
        start: int = 5000,
    ) -> None:
        """A process in the /proc tree."""
        folder = self.proc / str(pid)
        folder.mkdir(exist_ok=True)
        (folder / "stat").write_text(
            f"{pid} (some (odd) name) S {parent} 1 1 0 -1 0 0 0 0 0 10 5 0 0 20 0 1 0 {start} 0 0\n"
        )
        (folder / "cmdline").write_bytes(b"".join(os.fsencode(word) + b"\0" for word in words))
        (folder / "cgroup").write_text(f"0::/system.slice/{unit}\n")
        pairs = [f"{name}={value}\0" for name, value in (environment or {}).items()]
        (folder / "environ").write_bytes(os.fsencode("".join(pairs)))

    def unit(self, name: str, command: str, pid: int, active: str = "active", **more: str) -> None:
        """A unit as the stand-in systemctl shows it."""
        shown = {
            "Id": name,
            "LoadState": "loaded",
            "ActiveState": active,
            "SubState": "running" if active == "active" else "dead",
            "MainPID": str(pid),
            "MemoryCurrent": "[not set]",
            "ExecStart": "{ path=x ; argv[]=" + command + " ; ignore_errors=no }",
            "ActiveEnterTimestampMonotonic": "5000000",
            **more,
        }
        text = "\n".join(f"{key}={value}" for key, value in shown.items())
        (self.root / "units" / name).write_text(text + "\n")

    def worker(self, name: str, port: int, pid: int) -> None:
        """A unit with a running llama-server that listens on `port`."""
        words = ["/opt/llama-server", "-m", "/m.gguf", "--port", str(port)]
        self.process(pid, words, unit=name, environment={"CUDA_VISIBLE_DEVICES": "0"})
        self.unit(name, " ".join(words), pid)

    def start(self, **given: Any) -> Running:
        """The real probe over this node."""
        return Running(self, **given)


class Running:
    """The probe as a local process; `document` is what its lines add up to."""

    def __init__(self, node: FakeNode, *, python: str = "python3", **given: Any) -> None:
        environment = {
            "PATH": f"{node.bin}:{os.environ['PATH']}",
            "HOST_PROC": str(node.proc),
            "HOST_SYS": str(node.root / "sys"),
            "HOST_KMSG": str(node.root / "kmsg"),
            "LD_LIBRARY_PATH": str(node.root),
            **given.pop("environment", {}),
        }
        configuration = {"interval": 0.2, **given}
        self.document: dict[str, Any] = {}
        self.arrivals: list[float] = []
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._held_until = 0.0
        argv = [python, *bundle.command().argv[1:]]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self.send(bundle.payload() + bundle.configuration(**configuration))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
            if self._held_until:
                time.sleep(max(0.0, self._held_until - time.monotonic()))
        self._lines.put(b"")

    def hold(self, seconds: float) -> None:
        """Read nothing for a while, heartbeats going on, as when the network stands still."""
        self._held_until = time.monotonic() + seconds
        while time.monotonic() < self._held_until:
            self.send(bundle.beat(0))
            time.sleep(0.25)

    def send(self, data: bytes) -> None:
        """Write to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def line(self) -> dict[str, Any] | None:
        """Apply the next line; None at the end."""
        line = self._lines.get(timeout=60)
        self.arrivals.append(time.monotonic())
        if not line:
            return None
        patch: dict[str, Any] = json.loads(line)
        self.document = merge.apply(self.document, patch)
        return patch

    def until(self, true: Callable[[dict[str, Any]], Any], lines: int = 40) -> dict[str, Any]:
        """Lines with heartbeats until the document is as wanted; fails after `lines` lines."""
        for number in range(lines):
            self.send(bundle.beat(number))
            assert self.line() is not None, "the probe ended"
            if true(self.document):
                return self.document
        raise AssertionError(json.dumps(self.document, indent=1))

    def close(self) -> int:
        """End its input; its exit status."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        status = self.process.wait(30)
        return status
