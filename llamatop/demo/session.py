"""One SSH session: a real process in a process group of its own, its streams on the channel."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import paramiko

CHUNK = 32768
GRACE_SECONDS = 3.0
# Makes the terminal on standard input the controlling one, then becomes the shell.
LOGIN = (
    "import fcntl, os, sys, termios\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execvp(sys.argv[1], sys.argv[1:])\n"
)
WELCOME = (
    "This is {name} of llamatop's embedded cluster: systemctl, journalctl, nginx and nvidia-smi\n"
    "are simulated; everything else runs on your own machine.\n"
)


class Session:
    """A command (or a shell, with or without a terminal) of one channel.

    Threads carry the bytes; each ends with its stream. When the channel or the connection closes,
    the process group gets SIGHUP, then SIGKILL. `moving` is cleared by a partition; `prepared`
    returns when commands can run.
    """

    def __init__(
        self,
        channel: paramiko.Channel,
        environ: dict[str, str],
        home: str,
        moving: threading.Event,
        prepared: Callable[[], None],
    ) -> None:
        self.channel = channel
        self.environ = dict(environ)
        self.home = home
        self.moving = moving
        self.prepared = prepared
        self.size: tuple[int, int] | None = None
        self.master: int | None = None

    def want_terminal(self, term: str, width: int, height: int) -> None:
        """The process is to have a terminal."""
        self.environ["TERM"] = term or "dumb"
        self.size = (width, height)

    def resize(self, width: int, height: int) -> None:
        """The terminal's window has another size now."""
        self.size = (width, height)
        if self.master is not None:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", height, width, 0, 0))

    def begin(self, command: bytes | None) -> None:
        """Start; None is a login shell."""
        threading.Thread(target=self._run, args=(command,), daemon=True).start()

    def _run(self, command: bytes | None) -> None:
        self.prepared()
        if self.size is not None:
            self._with_terminal(command)
        else:
            self._with_pipes(command)

    def _argv(self, command: bytes | None) -> list[str | bytes]:
        if command is not None:
            return ["/bin/sh", "-c", command]
        shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
        return [shell, "--norc", "-i"] if shell.endswith("bash") else [shell, "-i"]

    def _with_pipes(self, command: bytes | None) -> None:
        argv = self._argv(command) if command is not None else ["/bin/sh"]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, stderr=pipe, env=self.environ, cwd=self.home,
            start_new_session=True, bufsize=0,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        readers = [
            self._thread(self._to_channel, process.stdout, self.channel.sendall),
            self._thread(self._to_channel, process.stderr, self.channel.sendall_stderr),
        ]
        self._thread(self._to_process, process, process.stdin.fileno())
        self._thread(self._watch, process)
        self._finish(process, readers)
        with contextlib.suppress(OSError):
            process.stdin.close()

    def _with_terminal(self, command: bytes | None) -> None:
        self.master, slave = pty.openpty()
        if self.size is not None:
            self.resize(*self.size)
        if command is None:
            name = self.environ["LLAMATOP_DEMO_NODE"]
            with contextlib.suppress(OSError):
                self.channel.sendall(WELCOME.format(name=name).replace("\n", "\r\n").encode())
        login: list[str | bytes] = [os.path.realpath(sys.executable), "-IS", "-c", LOGIN]
        process = subprocess.Popen(
            [*login, *self._argv(command)], stdin=slave, stdout=slave, stderr=slave,
            env=self.environ, cwd=self.home, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        output = os.fdopen(os.dup(self.master), "rb", buffering=0)
        readers = [self._thread(self._to_channel, output, self.channel.sendall)]
        self._thread(self._to_process, process, self.master)
        self._thread(self._watch, process)
        self._finish(process, readers)
        master, self.master = self.master, None
        os.close(master)

    @staticmethod
    def _thread(target: Callable[..., None], *args: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=args, daemon=True)
        thread.start()
        return thread

    def _to_channel(self, source: IO[bytes], send: Callable[[bytes], object]) -> None:
        with contextlib.suppress(OSError, EOFError), source:
            while data := source.read(CHUNK):
                self.moving.wait()
                send(data)

    def _to_process(self, process: subprocess.Popen[bytes], sink: int) -> None:
        """Bytes from the client; at its end of file the process sees one too."""
        with contextlib.suppress(OSError):
            while data := self.channel.recv(CHUNK):
                self.moving.wait()
                while data:
                    data = data[os.write(sink, data) :]
        if self.master is None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """End the process group when the channel closes."""
        while process.poll() is None and not self._closed():
            time.sleep(0.25)
        if process.poll() is None:
            _signal_group(process.pid, signal.SIGHUP)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
            _signal_group(process.pid, signal.SIGKILL)

    def _closed(self) -> bool:
        transport = self.channel.get_transport()
        return self.channel.closed or transport is None or not transport.is_active()

    def _finish(self, process: subprocess.Popen[bytes], readers: list[threading.Thread]) -> None:
        status = process.wait()
        for reader in readers:
            # A child that went into the background may hold the stream open for ever.
            reader.join(1.0)
        self.moving.wait()
        with contextlib.suppress(OSError, EOFError):
            self.channel.send_exit_status(status if status >= 0 else 128 - status)
            self.channel.close()


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def carry(channel: paramiko.Channel, onward: socket.socket) -> None:
    """Join a forwarded channel with a socket until one of them ends; both close together."""

    def pump(receive: Callable[[int], bytes], send: Callable[[bytes], object]) -> None:
        with contextlib.suppress(OSError, EOFError):
            while data := receive(CHUNK):
                send(data)
        with contextlib.suppress(OSError, EOFError):
            onward.shutdown(socket.SHUT_RDWR)
        channel.close()

    threading.Thread(target=pump, args=(onward.recv, channel.sendall), daemon=True).start()
    threading.Thread(target=pump, args=(channel.recv, onward.sendall), daemon=True).start()
