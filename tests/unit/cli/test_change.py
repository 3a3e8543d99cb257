"""The commands that change a cluster, up to the plan: what they say where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llamatop.cli import change
from llamatop.errors import UsageError
from llamatop.model.observed import NodeSnapshot
from llamatop.operate.targets import resolve
from tests.unit.operate.fakes import FakeCluster, FakeSource

# Patience without end: what is refused all the same was not waited for.
ENDLESS = (
    "import sys, llamatop.cli.change as change\n"
    "from llamatop.cli.main import main\n"
    "change._PATIENCE_SECONDS = 1e6\n"
    "sys.exit(main(sys.argv[1:]))\n"
)
WORKER = '[[node.worker]]\nunit = "other"\napi_key_env = "NO_SUCH_KEY"\n'


def test_a_name_that_no_node_has_is_refused_once_they_are_read(tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text('[[node]]\nname = "here"\nssh = "local"\n' + WORKER)
    for action in ("drain", "start"):
        done = subprocess.run(
            [sys.executable, "-c", ENDLESS, action, "here/gpu0", "--yes", "-c", file],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        warned, refused = done.stderr.splitlines()
        assert "the variable NO_SUCH_KEY is not set" in warned
        assert refused.startswith("llamatop: no worker or unit is called here/gpu0")


class SlowSystemctl(FakeSource):
    """Nodes that answer, but whose units are known only to one who waits for them."""

    def __init__(self, cluster: FakeCluster, fault: str = "") -> None:
        super().__init__(cluster)
        self._all = cluster
        snapshot = cluster.snapshot()
        faults = {"units": fault} if fault else {}
        nodes = tuple(
            replace(node, snapshot=replace(node.snapshot, units={}, faults=faults))
            for node in snapshot.nodes
        )
        cluster.frozen = replace(snapshot, nodes=nodes, workers=())
        self._stays = bool(fault)

    def settled(self, node: str) -> bool:
        return True

    async def refresh(self, node: str) -> NodeSnapshot:
        if not self._stays:
            self._all.frozen = None
        return await super().refresh(node)


async def test_a_name_is_not_refused_before_systemctl_has_answered() -> None:
    source: Any = SlowSystemctl(FakeCluster.two_by_two())
    with pytest.raises(UsageError):
        resolve(source.latest, ["node2/gpu1"])
    await change._all_named(source, ["node2/gpu1"], moving=True)
    assert [target.name for target in resolve(source.latest, ["node2/gpu1"])] == ["node2/gpu1"]


@pytest.mark.parametrize("word", ["node2/gpu1", "*"])
async def test_a_systemctl_that_never_answers_is_named(word: str) -> None:
    source: Any = SlowSystemctl(FakeCluster.two_by_two(), "systemctl has not answered for 5 s")
    await change._all_named(source, [word], moving=True)
    with pytest.raises(UsageError, match="the units of node2 are not known: systemctl has not"):
        resolve(source.latest, [word])
