"""One real machine: systemd as its first process, in a file system and a network of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tests.nodes import cgroup
from tests.nodes.base import base
from tests.nodes.errors import NodesError
from tests.nodes.keys import new_key
from tests.nodes.network import ip, set_forwarding
from tests.nodes.run import Run

_NETWORK = """[Match]
Name={interface}
[Network]
Address={address}/24
DHCP=no
LinkLocalAddressing=no
IPv6AcceptRA=no
ConfigureWithoutCarrier=yes
IgnoreCarrierLoss=yes
"""


def wait_until(what: str, condition: Callable[[], object], timeout: float = 60.0) -> None:
    """Ask `condition` again and again until it is true; NodesError names `what` never was."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise NodesError(f"{what}: not within {timeout:g} s")
        time.sleep(0.05)


class Machine:
    """A node of run `run`, reachable over ssh as `name` with the run's ssh_config.

    `layers` lie over the base system (see base.py); `binds` are directories of this machine that
    the node sees, read-only, by their path there. `host` is the last octet of its address. A node
    with `jump` is on the inner bridge alone, reachable through the machine of that name, which
    was made with `bridges_inner`.
    """

    def __init__(
        self,
        run: Run,
        name: str,
        host: int,
        *,
        layers: Sequence[Path] = (),
        binds: dict[str, Path] | None = None,
        jump: str | None = None,
        bridges_inner: bool = False,
    ) -> None:
        self.name = name
        self.full_name = f"lt{run.number}-{name}"
        if len(name) > 6:
            raise NodesError(f"{name}: at most 6 letters, an interface is named after it")
        network = run.network
        self.address = network.inner_address(host) if jump else network.address(host)
        self.jump = jump
        self.inner_address = network.inner_address(host) if bridges_inner else None
        self._run = run
        self._binds = binds or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._leader: int | None = None
        self._place = run.directory / name
        self.root = self._place / "root"
        self._mount([*layers, base()])
        self._bridge = network.with_inner() if jump or bridges_inner else network.bridge
        if bridges_inner:
            self._bridge = network.bridge
        self._furnish(run.keys.add_host(name, self.address, jump))

    def _mount(self, lower: Sequence[Path]) -> None:
        for part in ("upper", "work", "root"):
            (self._place / part).mkdir(parents=True, exist_ok=True)
        options = (
            f"lowerdir={':'.join(map(str, lower))},upperdir={self._place / 'upper'},"
            f"workdir={self._place / 'work'}"
        )
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self.root], check=True)

    def _furnish(self, host_key: Path) -> None:
        self.write("/etc/hostname", f"{self.name}\n")
        self.write("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
        self.write("/etc/ssh/ssh_host_ed25519_key", host_key.read_text(), mode=0o600)
        self.write(
            "/etc/systemd/network/10-host0.network",
            _NETWORK.format(interface="host0", address=self.address),
        )
        if self.inner_address:
            self.write(
                "/etc/systemd/network/10-inner0.network",
                _NETWORK.format(interface="inner0", address=self.inner_address),
            )
        for home in ("/root", "/home/admin", "/home/ops"):
            self.write(f"{home}/.ssh/authorized_keys", self._run.keys.client)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the node, on or off (except below /run and /tmp, which boot clears)."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = place.with_name(f".{place.name}.new")
        fresh.write_text(text)
        fresh.chmod(mode)
        fresh.rename(place)

    def read(self, path: str) -> str:
        """The text of a file of the node, on or off."""
        return (self.root / path.lstrip("/")).read_text()

    def enable(self, *units: str) -> None:
        """Have units start at boot; same as `systemctl enable` for `WantedBy=multi-user.target`."""
        for unit in units:
            link = self.root / "etc/systemd/system/multi-user.target.wants" / unit
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(f"/etc/systemd/system/{unit}")

    @property
    def running(self) -> bool:
        """Whether the machine has power."""
        return self._process is not None and self._process.poll() is None

    def power_on(self) -> None:
        """Start to boot and return at once; `wait_ready` waits for it."""
        if self.running:
            return
        joins = cgroup.make(self.full_name)
        command = ["systemd-nspawn", "-q", "-D", str(self.root), f"--machine={self.full_name}"]
        command += ["--boot", "--register=no", "--keep-unit", "--console=read-only"]
        command += [f"--network-bridge={self._bridge}", "--resolv-conf=off", "--timezone=off"]
        command += [f"--bind-ro={place}:{inside}" for inside, place in self._binds.items()]
        extra = self._extra_port()
        if extra:
            command.append(f"--network-veth-extra={extra}:inner0")
        join = "".join(f"echo $$ > {procs} && " for procs in joins)
        with (self._place / "console.log").open("ab") as console:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", f'{join}exec "$@"', "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if extra:
            wait_until(f"{self.name} makes {extra}", Path(f"/sys/class/net/{extra}").exists)
            ip("link", "set", extra, "master", self._run.network.with_inner(), "up")

    def _extra_port(self) -> str | None:
        return f"vx-{self.full_name}"[:15] if self.inner_address else None

    def console(self) -> str:
        """What the machine printed while booting and since."""
        log = self._place / "console.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Wait until sshd answers and nobody is kept out by a boot under way."""

        def ready() -> bool:
            if not self.running:
                raise NodesError(f"{self.full_name} went off:\n{self.console()[-1500:]}")
            if self.leader is None:
                return False
            if (Path(f"/proc/{self.leader}/root/run/nologin")).exists():
                return False
            return self._inner_sshd_answers() if self.jump else self._sshd_answers()

        try:
            wait_until(f"{self.full_name} answers ssh", ready, timeout)
        except NodesError as error:
            raise NodesError(f"{error}\nits console says:\n{self.console()[-1500:]}") from error

    def _sshd_answers(self) -> bool:
        try:
            with socket.create_connection((self.address, 22), timeout=1) as connection:
                connection.settimeout(1)
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def _inner_sshd_answers(self) -> bool:
        done = self.run(["ss", "-Hltn", "sport", "=", ":22"], check=False)
        return ":22" in done.stdout

    @property
    def leader(self) -> int | None:
        """The pid, here, of the machine's first process; None while there is none."""
        if self._leader is not None and Path(f"/proc/{self._leader}").exists():
            return self._leader
        self._leader = None
        for pid in cgroup.pids(self.full_name):
            with suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                if f"\nNSpid:\t{pid}\t1\n" in status and status.startswith("Name:\tsystemd\n"):
                    self._leader = pid
        return self._leader

    def run(
        self,
        command: Sequence[str],
        *,
        check: bool = True,
        timeout: float = 30.0,
        text: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root at the machine's console: works without network and sshd.

        `text` is its standard input. Raises NodesError where it fails and `check` is left on.
        """
        leader = self.leader
        if leader is None:
            raise NodesError(f"{self.full_name} is off: cannot run {' '.join(command)}")
        enter = ["nsenter", "-t", str(leader), "-m", "-u", "-i", "-n", "-p", "-r", "-w"]
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        done = subprocess.run(
            [*enter, "env", "-i", path, "HOME=/root", "LC_ALL=C.UTF-8", *command],
            input=text or "",
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            raise NodesError(
                f"{self.name}: {' '.join(command)} ended with {done.returncode}:\n"
                f"{(done.stdout + done.stderr).strip()[-1500:]}"
            )
        return done

    def ssh(
        self, command: str, *, user: str = "admin", timeout: float = 30.0, connect: int = 5
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command over ssh as a person would; judging the exit code is the caller's.

        `connect` is the time in whole seconds that the far side has to answer.
        """
        config = str(self._run.keys.ssh_config)
        return subprocess.run(
            [
                "ssh",
                "-F",
                config,
                "-o",
                "BatchMode=yes",
                "-o",
                f"ConnectTimeout={connect}",
                "-l",
                user,
                self.name,
                command,
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        """Run systemctl on the machine and return what it printed, without the last newline."""
        return self.run(["systemctl", *arguments], check=check, timeout=120).stdout.rstrip("\n")

    def freeze(self, unit: str) -> None:
        """Stop a unit's processes where they are: its sockets accept and nothing answers."""
        self.systemctl("kill", "--signal=STOP", unit)

    def thaw(self, unit: str) -> None:
        """Let a frozen unit go on."""
        self.systemctl("kill", "--signal=CONT", unit)

    def freeze_systemd(self) -> None:
        """Stop the first process: systemctl and everything else that asks it hangs."""
        if self.leader:
            os.kill(self.leader, signal.SIGSTOP)

    def thaw_systemd(self) -> None:
        """Let the first process go on."""
        if self.leader:
            os.kill(self.leader, signal.SIGCONT)

    def change_host_key(self) -> None:
        """Give the running machine another host key than the one that known_hosts names."""
        key = self._place / "other_host_key"
        new_key(key, self.name)
        self.write("/etc/ssh/ssh_host_ed25519_key", key.read_text(), mode=0o600)
        self.systemctl("restart", "ssh")
        self.wait_ready()

    @property
    def port(self) -> str:
        """The bridge port that the machine hangs on."""
        if self.leader is None:
            raise NodesError(f"{self.full_name} is off: it has no port")
        link = self.run(["cat", "/sys/class/net/host0/iflink"], check=False).stdout.strip()
        for candidate in Path("/sys/class/net").iterdir():
            if (candidate / "ifindex").read_text().strip() == link:
                return candidate.name
        raise NodesError(f"{self.full_name} has no port on the bridge")

    def partition(self) -> None:
        """Cut the machine from the network: all that is sent either way vanishes in silence."""
        set_forwarding(self.port, False)

    def heal(self) -> None:
        """End a partition."""
        set_forwarding(self.port, True)

    def power_off(self, timeout: float = 100.0) -> None:
        """Shut down in order, as `systemctl poweroff`, and wait for it."""
        if self.running and self._process:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired as error:
                raise NodesError(f"{self.full_name} does not shut down") from error
        self._tidy()

    def cut_power(self) -> None:
        """Pull the plug: nothing on the machine runs another instruction, no peer is told."""
        if self.running and self._process:
            # Sockets that the kernel closes for the killed would still say goodbye.
            with suppress(NodesError, subprocess.SubprocessError):
                self.partition()
            self._process.kill()
        self._tidy()

    def _tidy(self) -> None:
        cgroup.kill(self.full_name)
        if self._process:
            self._process.wait(10)
        self._process = None
        self._leader = None
        for link in (f"vb-{self.full_name}"[:15], self._extra_port()):
            if link and Path(f"/sys/class/net/{link}").exists():
                subprocess.run(["ip", "link", "del", link], check=False, capture_output=True)

    def remove(self) -> None:
        """Pull the plug and forget the machine's disk."""
        self.cut_power()
        subprocess.run(["umount", "-l", self.root], check=False, capture_output=True)
        shutil.rmtree(self._place, ignore_errors=True)
