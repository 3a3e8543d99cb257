"""The keys of a run, and the ssh configuration that a person would have for it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

_COMMON = """Host *-ops
    User ops
Host *-root
    User root
Host *
    User admin
    IdentityFile {directory}/key
    IdentitiesOnly yes
    UserKnownHostsFile {directory}/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    UpdateHostKeys no
    ConnectTimeout 5
"""


def new_key(path: Path, comment: str) -> str:
    """Write an ed25519 key pair to `path` and `path`.pub; returns the public line."""
    path.unlink(missing_ok=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return path.with_name(path.name + ".pub").read_text()


@dataclass
class _Host:
    name: str
    address: str
    host_key: str
    jump: str | None


@dataclass
class Keys:
    """`key`, `known_hosts` and `ssh_config` in one directory, kept up to date as hosts are added.

    For a host `node1` the configuration knows `node1` (user admin, who may use sudo), `node1-ops`
    (user ops, who may not) and `node1-root`.
    """

    directory: Path
    client: str = ""
    _hosts: dict[str, _Host] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.client = new_key(self.directory / "key", "llamatop-tests")
        self.write(self.directory)

    @property
    def ssh_config(self) -> Path:
        """The configuration file, for `ssh -F`."""
        return self.directory / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        """The host keys of all machines, by name and by address."""
        return self.directory / "known_hosts"

    def add_host(self, name: str, address: str, jump: str | None = None) -> Path:
        """Make the host key of a machine and make it known; returns the private key's file."""
        path = self.directory / f"host_{name}"
        public = new_key(path, name)
        self._hosts[name] = _Host(name, address, " ".join(public.split()[:2]), jump)
        self.write(self.directory)
        return path

    def known_hosts_text(self) -> str:
        """Lines of known_hosts for every machine."""
        return "".join(
            f"{host.name},{host.address} {host.host_key}\n" for host in self._hosts.values()
        )

    def write(self, directory: Path) -> None:
        """Write `ssh_config`, `known_hosts` and `key` into `directory`, which they then name."""
        directory.mkdir(parents=True, exist_ok=True)
        blocks = []
        for host in self._hosts.values():
            names = f"{host.name} {host.name}-ops {host.name}-root"
            block = f"Host {names}\n    HostName {host.address}\n"
            blocks.append(block + (f"    ProxyJump {host.jump}\n" if host.jump else ""))
        common = _COMMON.format(directory=directory.absolute())
        (directory / "ssh_config").write_text("".join(blocks) + common)
        (directory / "known_hosts").write_text(self.known_hosts_text())
        if directory != self.directory:
            copy = directory / "key"
            copy.unlink(missing_ok=True)
            copy.touch(mode=0o600)
            copy.write_bytes((self.directory / "key").read_bytes())
