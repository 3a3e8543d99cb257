"""A real nginx under a directory of its own, and the transaction program run against it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from llamatop import nginx
from llamatop.operate import program

MAIN = """\
daemon on;
worker_processes 2;
pid {root}/nginx.pid;
error_log {root}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    include conf.d/*.conf;
    include sites-enabled/*;
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://u; }} }}
}}
"""
UPSTREAM = b"upstream u {\r\n\tserver 127.0.0.1:9; # one\r\n\tserver 127.0.0.1:10;\r\n}"


@dataclass
class RealNginx:
    """`site` is the link in sites-enabled, `target` the file it leads to."""

    binary: str
    root: Path

    def __post_init__(self) -> None:
        for name in ("conf.d", "sites-enabled", "sites-available", "lock", "bin"):
            (self.root / name).mkdir()
        self.main = self.root / "nginx.conf"
        self.site = self.root / "sites-enabled" / "llama"
        self.target = self.root / "sites-available" / "llama"
        self.target.write_bytes(UPSTREAM)
        self.site.symlink_to("../sites-available/llama")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.main.write_text(MAIN.format(root=self.root, port=probe.getsockname()[1]))

    def argv(self, *words: str) -> list[str]:
        return [self.binary, "-p", str(self.root), "-c", str(self.main), *words]

    def start(self) -> None:
        subprocess.run(self.argv(), check=True, capture_output=True, timeout=30)
        until(lambda: self.workers() != set())

    def stop(self) -> None:
        # Not `-s stop`: that reads the files first, and a test may have broken them.
        with suppress(OSError, ValueError):
            master = self.master()
            os.kill(master, signal.SIGTERM)
            until(lambda: not Path(f"/proc/{master}/cmdline").exists())

    def valid(self) -> bool:
        return subprocess.run(self.argv("-t"), capture_output=True, timeout=30).returncode == 0

    def master(self) -> int:
        return int((self.root / "nginx.pid").read_text())

    def workers(self) -> set[int]:
        try:
            listed = Path(f"/proc/{self.master()}/task/{self.master()}/children").read_text()
        except OSError:
            return set()
        return {int(pid) for pid in listed.split()}

    def request(self, after: bytes | None = None, **changes: object) -> dict[str, object]:
        before = self.target.read_bytes()
        if after is None:
            after = nginx.edit(before, "u", "127.0.0.1:9", down=True)
        return {
            "do": "transact",
            "files": [
                {
                    "path": str(self.site),
                    "target": str(self.target),
                    "before": hashlib.sha256(before).hexdigest(),
                    "after": hashlib.sha256(after).hexdigest(),
                    "text": after.decode("latin-1"),
                }
            ],
            "sudo": [],
            "unit": None,
            "pid_file": str(self.root / "nginx.pid"),
            "test": self.argv("-t"),
            "reload": self.argv("-s", "reload"),
            "holder": "ann@desk: drain",
            "lock_seconds": 5,
            "confirm_seconds": 5,
            **changes,
        }

    def begin(self, request: dict[str, object], **environment: str) -> Transaction:
        """Start the program as it runs on a node; `bin` comes first on its path."""
        environ = {
            **os.environ,
            "LLAMATOP_LOCK_DIRECTORY": str(self.root / "lock"),
            "LLAMATOP_DRAINS_DIRECTORY": str(self.root / "lock"),
            "LLAMATOP_LOG_SOCKET": str(self.root / "log"),
            "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}",
            **environment,
        }
        process = subprocess.Popen(
            [sys.executable, *program.command().argv[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environ,
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(program.source() + json.dumps(request).encode() + b"\n")
        process.stdin.close()
        return Transaction(process)

    def run(self, request: dict[str, object], **environment: str) -> list[dict[str, object]]:
        return list(self.begin(request, **environment))

    def wait_for_lock(self) -> None:
        """Return once nobody holds the lock."""
        with (self.root / "lock" / "llamatop-membership.lock").open() as file:
            until(lambda: _lockable(file.fileno()))

    def script(self, name: str, text: str) -> None:
        """Put a program of this name in front of the real one."""
        path = self.root / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def leftovers(self) -> list[str]:
        return [path.name for path in self.target.parent.iterdir() if path != self.target]


@dataclass
class Transaction:
    """The program while it runs: iterating gives what it says."""

    process: subprocess.Popen[bytes]

    def __iter__(self) -> Iterator[dict[str, object]]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield json.loads(line)
        self.process.stdout.close()
        self.process.wait(30)

    def until(self, event: str) -> None:
        """Return once the program has said `event`."""
        assert self.process.stdout is not None
        while json.loads(self.process.stdout.readline())["event"] != event:
            pass

    def child(self) -> int:
        """The process that does the work."""
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def cut(self) -> None:
        """What a lost ssh does: hang up, kill what sshd started, close the pipe."""
        assert self.process.stdout is not None
        os.killpg(self.process.pid, signal.SIGHUP)
        self.process.kill()
        self.process.stdout.close()
        self.process.wait(30)


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for a condition of another process, which cannot be awaited otherwise."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def _lockable(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return True
