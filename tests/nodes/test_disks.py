"""Disks of the balancer that are full, on a real machine: nothing is half done or passed over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llamatop.errors import PlanFailed
from tests.nodes.cluster import Cluster
from tests.nodes.machine import Machine
from tests.nodes.test_operate import CONF, console

FOLDER, NAME = CONF.rsplit("/", 1)
WORKER = "node1/gpu0"
LOCK = "/run/lock/llamatop-membership.lock"
# A small file system over a directory, with what is in it, then as much more as goes in.
FILL = """
kept=$(mktemp -d)
cp -a "$1/." "$kept"
mount -t tmpfs -o "$2" tmpfs "$1"
cp -a "$kept/." "$1"
rm -r "$kept"
dd if=/dev/zero of="$1/filler" bs=4k 2>/dev/null && exit 1
for n in $(seq 99); do touch "$1/filler$n" || break; done
"""


@contextmanager
def full(machine: Machine, place: str, options: str) -> Iterator[None]:
    """`place` on a file system of its own without room; what is written there is lost."""
    machine.run(["sh", "-ec", FILL, "sh", place, options])
    try:
        yield
    finally:
        machine.run(["umount", place])


@pytest.mark.parametrize("options", ["mode=755,size=8k", "mode=755,size=64k,nr_inodes=4"])
async def test_a_full_disk_under_nginxs_files_stops_it_and_names_the_mend(
    cluster: Cluster, tmp_path: Path, options: str
) -> None:
    node = cluster["node1"]
    before = node.read(CONF)
    async with console(cluster, tmp_path) as at:
        with full(node, FOLDER, options):
            listed = node.run(["ls", "-A", FOLDER]).stdout
            plan = await at.plan("drain", WORKER)
            with pytest.raises(PlanFailed) as caught:
                await at.execute(plan)
            assert f"no space is left for the new text beside {CONF}" in str(caught.value)
            assert f"`df -h {FOLDER}`" in str(caught.value)
            assert "done before: nothing" in str(caught.value)
            assert node.run(["cat", CONF]).stdout == before
            assert node.run(["ls", "-A", FOLDER]).stdout == listed
            assert node.run(["nginx", "-t"], check=False).returncode == 0
        # Once there is room the same works.
        await at.do("drain", WORKER)
        await at.do("undrain", WORKER)
    assert node.read(CONF) == before


async def test_a_full_disk_under_the_records_stops_nothing_and_is_said(
    cluster: Cluster, tmp_path: Path
) -> None:
    node = cluster["node1"]
    before = node.read(CONF)
    async with console(cluster, tmp_path) as at:
        node.run(["rm", "-f", LOCK])
        # Without the lock nothing is changed; one that is there already needs no room.
        with (
            full(node, "/run/lock", "mode=1777,size=8k,nr_inodes=8"),
            pytest.raises(PlanFailed, match=f"{LOCK}: No space left on device: free some"),
        ):
            await at.do("drain", WORKER)
        node.run(["install", "-m", "666", "/dev/null", LOCK])
        with (
            full(node, "/var/tmp", "mode=1777,size=512k,nr_inodes=8"),
            full(node, "/run/lock", "mode=1777,size=8k,nr_inodes=8"),
        ):
            for action in ("drain", "undrain"):
                results = await at.do(action, WORKER)
                told = [r.progress for r in results if r.state == "done" and r.step.edits]
                assert len(told) == 1
                assert told[0].startswith("not written down on node1 (/var/tmp/llamatop-drains-")
                assert "No space left on device" in told[0]
            assert node.read(CONF) == before
            # What others wrote there before is as it was.
            files = node.run(["sh", "-c", "cd /var/tmp; ls -A | grep llamatop || true"]).stdout
            assert ".new" not in files
