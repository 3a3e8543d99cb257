"""A split worker of the demo put as one process a GPU and back, on files of the demo alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.demo.conftest import Demo

REAL = ("/etc/systemd", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
MADE = ("llama-server-gpu0.service", "llama-server-gpu1.service")


def real_files() -> dict[str, tuple[int, int, int]]:
    """Every file of this machine's own systemd, with what a change would change."""
    found = {}
    for place in REAL:
        for folder, _, names in os.walk(place):
            for path in (folder, *(f"{folder}/{name}" for name in names)):
                status = os.lstat(path)
                found[path] = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
    return found


def changed(demo: Demo, home: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "llamatop.cli.main", *words, "-c", f"{demo.directory}/cluster.toml"],
        env={**os.environ, "XDG_STATE_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_unsplit_and_back_touch_nothing_of_this_machine(demo: Demo, tmp_path: Path) -> None:
    before = real_files()
    units = demo.directory / "node2/etc/systemd/system"
    assert not any((units / name).exists() for name in MADE)
    told = changed(demo, tmp_path, "unsplit", "node2/split0", "--yes")
    assert f"write /etc/systemd/system/{MADE[0]}" in told
    shown = demo.out("node2", f"cat /etc/systemd/system/{MADE[1]}; systemctl is-active {MADE[1]}")
    assert shown == (units / MADE[1]).read_text() + "active\n"
    members = demo.out("node1", "nginx -T 2>/dev/null | grep -c 'server 127.*:3708.;'")
    assert members == "4\n", "gpu0 and gpu1 of both nodes"
    changed(demo, tmp_path, "split", "node2/gpu0", "node2/gpu1", "--yes")
    states = demo.ssh("node2", f"systemctl is-active llama-server-split0 {' '.join(MADE)}").stdout
    assert states.split() == ["active", "inactive", "inactive"]
    demo.out("node2", f"sudo -n rm -f -- /etc/systemd/system/{MADE[0]}; systemctl daemon-reload")
    assert demo.ssh("node2", f"systemctl start {MADE[0]}").returncode == 5
    assert real_files() == before
