"""The Debian that every machine starts from: read-only layers under a machine's own."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
from pathlib import Path

from tests.nodes.cache import cached
from tests.nodes.errors import NodesError

_SUITE = "bookworm"
_PACKAGES = (
    "systemd,systemd-sysv,dbus,openssh-server,openssh-client,nginx-light,iproute2,procps,python3,"
    "sudo,autossh,libgomp1,numactl"
)
# Nothing on a test machine needs them, and each costs boot time.
_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "console-getty.service",
    "getty.target",
    "systemd-journal-flush.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-networkd-wait-online.service",
    "systemd-network-generator.service",
    "rsync.service",
)
_USERS = """
useradd --create-home --shell /bin/bash ops
useradd --create-home --shell /bin/bash --groups adm admin
useradd --system --no-create-home --shell /usr/sbin/nologin llama
useradd --create-home --shell /bin/sh tunnel
echo 'admin ALL=(ALL:ALL) NOPASSWD: ALL' > /etc/sudoers.d/admin
chmod 440 /etc/sudoers.d/admin
for user in root ops admin tunnel; do
    home=$(getent passwd $user | cut -d: -f6)
    install -d -m 700 -o $user -g $user $home/.ssh
done
passwd -d root
"""
_SSHD = """UseDNS no
PasswordAuthentication no
PermitRootLogin prohibit-password
HostKey /etc/ssh/ssh_host_ed25519_key
MaxStartups 50:30:100
"""


def _chroot(place: Path, *command: str) -> None:
    done = subprocess.run(
        ["chroot", str(place), *command],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        tail = (done.stdout + done.stderr)[-800:]
        raise NodesError(f"in the base system: {' '.join(command)[:80]} failed:\n{tail}")


def _build(place: Path) -> None:
    mirror = os.environ.get("LLAMATOP_TEST_MIRROR")
    command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(place)]
    done = subprocess.run(
        [*command, mirror] if mirror else command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        tail = (done.stdout + done.stderr)[-800:]
        raise NodesError(f"debootstrap failed (LLAMATOP_TEST_MIRROR names a mirror):\n{tail}")
    place.chmod(0o755)
    _chroot(place, "sh", "-eux", "-c", _USERS)
    _chroot(place, "systemctl", "enable", "systemd-networkd", "ssh")
    _chroot(place, "systemctl", "disable", "nginx")
    _chroot(place, "systemctl", "mask", *_MASKED)
    for key in (place / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (place / "etc/ssh/sshd_config.d/llamatop.conf").write_text(_SSHD)
    (place / "etc/nginx/sites-enabled/default").unlink()
    (place / "etc/resolv.conf").unlink(missing_ok=True)
    (place / "etc/machine-id").write_text("")
    (place / "opt/llama").mkdir()
    (place / "opt/models").mkdir()
    shutil.rmtree(place / "var/cache/apt")
    shutil.rmtree(place / "var/lib/apt/lists")
    (place / "var/lib/apt/lists").mkdir()
    (place / "var/cache/apt/archives/partial").mkdir(parents=True)


def base() -> Path:
    """The root file system that all machines share: systemd, sshd, nginx, python3, sudo, autossh.

    Users: `admin` may do anything with sudo, `ops` nothing; `tunnel` is where autossh arrives;
    `llama` runs the workers.
    """
    recipe = repr((_SUITE, _PACKAGES, _MASKED, _USERS, _SSHD, inspect.getsource(_build)))
    return cached("base", recipe, _build)


_MINIMAL = """
apt-get remove -qy --no-download libpython3-stdlib python3 libpython3.11-stdlib python3.11
dpkg -l python3-minimal | grep -q ^ii
! python3 -c 'import json'
"""


def minimal_python() -> Path:
    """A layer to lay over `base()`: python3-minimal alone, with no json, ctypes or http."""
    lower = base()

    def build(place: Path) -> None:
        upper, work, merged = place / "upper", place / "work", place / "merged"
        for directory in (upper, work, merged):
            directory.mkdir()
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o", options, str(merged)], check=True
        )
        try:
            _chroot(merged, "sh", "-eux", "-c", _MINIMAL)
        finally:
            subprocess.run(["umount", str(merged)], check=True)
        merged.rmdir()
        shutil.rmtree(work)

    return cached("minimal-python", f"{lower}{_MINIMAL}", build) / "upper"
