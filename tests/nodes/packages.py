"""What booting test machines needs here; `python -m tests.nodes.packages` installs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.nodes.errors import NodesError

# Each Debian package with a file that tells that it is installed.
DEBIAN = {
    "debootstrap": "/usr/sbin/debootstrap",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
    "systemd-container": "/usr/bin/systemd-nspawn",
    "iproute2": "/usr/sbin/bridge",
    "openssh-client": "/usr/bin/ssh",
    "gcc": "/usr/bin/gcc",
    "libc6-dev": "/usr/include/stdio.h",
    "util-linux": "/usr/bin/nsenter",
    "ca-certificates": "/etc/ssl/certs/ca-certificates.crt",
}


def missing() -> list[str]:
    """The Debian packages that are not installed here."""
    on_path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin"
    return [
        package
        for package, witness in DEBIAN.items()
        if not Path(witness).exists() and not shutil.which(Path(witness).name, path=on_path)
    ]


def why_not() -> str | None:
    """Why real machines cannot run here, in one sentence, or None where they can."""
    if sys.platform != "linux":
        return f"real nodes need Linux, this is {sys.platform}"
    if os.uname().machine != "x86_64":
        return f"real nodes need x86_64 (the llama-server wheel), this is {os.uname().machine}"
    if os.geteuid() != 0:
        return "real nodes need root: run the tests with sudo, or in CI as root"
    if not shutil.which("apt-get") and missing():
        return f"real nodes need Debian's {', '.join(missing())}, and there is no apt-get here"
    return None


def install() -> list[str]:
    """Install what is missing with apt-get and return its names; raises NodesError."""
    wanted = missing()
    if not wanted:
        return []
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-qy", "--no-install-recommends", *wanted],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            tail = (done.stdout + done.stderr).strip()[-800:]
            raise NodesError(f"{' '.join(command)} ended with {done.returncode}:\n{tail}")
    return wanted


def main() -> int:
    reason = why_not()
    if reason:
        print(reason, file=sys.stderr)
        return 1
    print("installed:", ", ".join(install()) or "nothing, all was there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
