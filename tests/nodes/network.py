"""One bridge for a run, with a /24 of its own, and a second that only a jump host is on."""

from __future__ import annotations

import subprocess

from tests.nodes.errors import NodesError


def ip(*arguments: str) -> str:
    """Run `ip` with these arguments and return what it printed; raises NodesError."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise NodesError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


class Network:
    """The bridges of run `number`: 198.18.N.0/24 (this side is .1) and 198.19.N.0/24 behind it.

    This machine has no address on the inner one and no route to it: what answers from there was
    reached through a machine that is on both.
    """

    def __init__(self, number: int) -> None:
        self.bridge = f"lt{number}"
        self.inner_bridge = f"lt{number}b"
        self._number = number
        self._inner = False
        self._add(self.bridge)
        ip("address", "add", f"{self.address(1)}/24", "dev", self.bridge)

    def address(self, host: int) -> str:
        """The address with this last octet on the bridge."""
        return f"198.18.{self._number}.{host}"

    def inner_address(self, host: int) -> str:
        """The address with this last octet on the bridge behind the jump host."""
        return f"198.19.{self._number}.{host}"

    def with_inner(self) -> str:
        """The bridge behind the jump host, made now unless it is there."""
        if not self._inner:
            self._add(self.inner_bridge)
            ip("route", "add", "unreachable", f"198.19.{self._number}.0/24")
            self._inner = True
        return self.inner_bridge

    def _add(self, bridge: str) -> None:
        ip("link", "add", bridge, "type", "bridge", "forward_delay", "0", "stp_state", "0")
        ip("link", "set", bridge, "up")


def set_forwarding(port: str, on: bool) -> None:
    """Let a bridge port pass frames or swallow them: the far end sees silence, not a lost link."""
    state = "3" if on else "0"
    subprocess.run(["bridge", "link", "set", "dev", port, "state", state], check=True)
