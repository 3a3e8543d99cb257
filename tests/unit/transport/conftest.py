"""A small world of ssh: one identity, servers, an ssh configuration and a known_hosts file."""

from __future__ import annotations

import getpass
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from llamatop.transport.ssh import SshMachine

from .sshd import Sshd, keygen


@dataclass
class World:
    """Files of one test, and the servers in it by host name."""

    root: Path
    identity: Path
    authorized: Path
    servers: dict[str, Sshd] = field(default_factory=dict)
    blocks: dict[str, list[str]] = field(default_factory=dict)
    machines: list[SshMachine] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.root / "ssh config"

    @property
    def known_hosts(self) -> Path:
        return self.root / "known hosts"

    def server(
        self,
        name: str,
        *lines: str,
        known: bool = True,
        extra: str = "",
        kinds: tuple[str, ...] = ("ed25519",),
    ) -> Sshd:
        """Start a server and write its Host block; `lines` are added to the block."""
        server = Sshd(self.root / name, self.authorized, kinds, extra)
        server.start()
        self.servers[name] = server
        if known:
            self.know(server.line())
        self.host(name, "HostName 127.0.0.1", f"Port {server.port}", *lines)
        return server

    def host(self, name: str, *lines: str) -> None:
        """Write (or write again) a Host block."""
        self.blocks[name] = list(lines)
        text = [
            f"Host {host}\n" + "".join(f"  {line}\n" for line in block)
            for host, block in self.blocks.items()
        ]
        text.append(
            f"Host *\n  User {getpass.getuser()}\n  IdentityFile {self.identity}\n"
            "  IdentityAgent none\n  GlobalKnownHostsFile none\n"
        )
        self.config.write_text("".join(text))

    def know(self, *lines: str) -> None:
        with self.known_hosts.open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def machine(self, host: str, known_hosts: Path | None = None) -> SshMachine:
        machine = SshMachine(
            host.partition("@")[2] or host,
            host,
            ssh_config=self.config,
            known_hosts=known_hosts or self.known_hosts,
        )
        self.machines.append(machine)
        return machine


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keygen(tmp_path_factory.mktemp("identity") / "id")


@pytest.fixture
async def world(tmp_path: Path, identity: Path) -> AsyncIterator[World]:
    authorized = tmp_path / "authorized_keys"
    authorized.write_text(identity.with_suffix(".pub").read_text())
    world = World(tmp_path, identity, authorized)
    world.known_hosts.touch()
    yield world
    for machine in world.machines:
        await machine.close()
    for server in world.servers.values():
        server.stop()
