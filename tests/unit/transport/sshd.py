"""Real OpenSSH servers on loopback, started by an ordinary user's hand, for the tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def need_sshd() -> str:
    """The path of sshd; without it the tests fail in CI and are skipped elsewhere."""
    if SSHD is None:
        complaint = "sshd is not installed: apt-get install openssh-server"
        if os.environ.get("CI"):
            pytest.fail(complaint)
        pytest.skip(complaint)
    return SSHD


def keygen(path: Path, kind: str = "ed25519", passphrase: str = "", form: str = "RFC4716") -> Path:
    """A fresh key; `path.pub` beside it."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", path.name, "-f", path]
        + (["-m", form] if form != "RFC4716" else [])
        + (["-b", "2048"] if kind == "rsa" else []),
        check=True,
    )
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def silent_port(answer: bytes = b"") -> Iterator[int]:
    """A port that accepts, and says `answer` to the first words if there is one."""
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    kept.append(connection)
                    if answer:
                        connection.recv(1)
                        connection.sendall(answer)
                        connection.shutdown(socket.SHUT_WR)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield int(server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for connection in kept:
                connection.close()


@dataclass
class Sshd:
    """One server: its port, host keys and log; `stop` and `start` again as in life."""

    root: Path
    authorized: Path
    kinds: tuple[str, ...] = ("ed25519",)
    extra: str = ""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        for kind in self.kinds:
            if not self.key(kind).exists():
                keygen(self.key(kind), kind)

    def key(self, kind: str = "ed25519") -> Path:
        return self.root / f"host_{kind}"

    def line(self, name: str | None = None, kind: str = "ed25519") -> str:
        """Its line for known_hosts."""
        kind_and_key = self.key(kind).with_suffix(".pub").read_text().split()[:2]
        return " ".join([name or f"[127.0.0.1]:{self.port}", *kind_and_key])

    @property
    def log(self) -> str:
        return (self.root / "log").read_text()

    def start(self) -> None:
        keys = "\n".join(f"HostKey {self.key(kind)}" for kind in self.kinds)
        # bash reads the person's .bashrc for sshd unless it believes to be nested
        config = self.root / "config"
        config.write_text(
            f"{self.extra}\nPort {self.port}\nListenAddress 127.0.0.1\n{keys}\n"
            f"PidFile none\nAuthorizedKeysFile {self.authorized}\nStrictModes no\n"
            "UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "SetEnv SHLVL=3\nLogLevel DEBUG1\nUseDNS no\nMaxStartups 100\nPermitRootLogin yes\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.process = subprocess.Popen(
            [need_sshd(), "-D", "-f", config, "-E", self.root / "log"], start_new_session=True
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except ConnectionRefusedError:
                assert self.process.poll() is None, self.log
                assert time.monotonic() < deadline, "sshd does not listen"
                time.sleep(0.01)

    def children(self) -> list[int]:
        """The processes that serve its connections (not their grandchildren)."""
        assert self.process is not None
        tasks = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in tasks.read_text().split()]

    def descendants(self) -> list[int]:
        """Every process below it."""
        found = self.children()
        for pid in found:
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                found += [int(child) for child in task.read_text().split()]
        return found

    def cut(self) -> None:
        """Kill everything that serves a connection, as a dying machine would."""
        for pid in self.children():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        if self.process is not None:
            self.cut()
            self.process.kill()
            self.process.wait()
            self.process = None
