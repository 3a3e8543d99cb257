"""HTTP workers on real sockets that answer with chosen bytes, late, or never."""

from __future__ import annotations

import socket
import socketserver
import threading
from pathlib import Path

CASES = Path(__file__).parents[2] / "cases" / "llama_server" / "build-10068"
ERRORS = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def captured(name: str) -> bytes:
    """A captured answer, whole."""
    return (CASES / f"{name}.http").read_bytes()


def kept(answer: bytes) -> bytes:
    """The answer without its `Connection: close`."""
    return answer.replace(b"Connection: close\r\n", b"")


class Worker(socketserver.ThreadingTCPServer):
    """A llama-server of recorded answers by path; `hang` holds paths never answered."""

    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = {
            "/props": captured("props"),
            "/metrics": captured("metrics-busy"),
            "/slots": captured("slots-busy"),
            "/health": captured("health-ok"),
        }
        self.hang: set[str] = set()
        self.asked: list[str] = []
        self.heads: list[bytes] = []
        self.connections = 0
        self.freed = threading.Event()
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Stop listening and let go of what hangs."""
        self.freed.set()
        self.shutdown()
        self.server_close()


class _Handler(socketserver.BaseRequestHandler):
    server: Worker
    request: socket.socket

    def handle(self) -> None:
        self.server.connections += 1
        waiting = b""
        try:
            while True:
                while b"\r\n\r\n" not in waiting:
                    data = self.request.recv(65536)
                    if not data:
                        return
                    waiting += data
                head, _, waiting = waiting.partition(b"\r\n\r\n")
                path = head.split()[1].decode()
                self.server.asked.append(path)
                self.server.heads.append(head)
                if path in self.server.hang:
                    self.server.freed.wait(60)
                    return
                answer = self.server.answers.get(path, ERRORS)
                self.request.sendall(answer)
                if b"Connection: close" in answer or b"X-Then: close" in answer:
                    return
        except OSError:
            return
