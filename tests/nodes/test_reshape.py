"""A worker split over two cards put as one process on each, and back, under streams; and undone."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from llamatop.errors import NodeError, PlanFailed, Refused
from llamatop.model.plan import Action, Plan
from tests.nodes.balancer import put_balancer
from tests.nodes.cluster import GPU0, Cluster
from tests.nodes.gpus import P40
from tests.nodes.load import Load
from tests.nodes.test_operate import CONF, Console, console, ended, llamatop
from tests.nodes.test_rights import put

UNITS = "/etc/systemd/system"
BIG = replace(GPU0, unit="llama-server-big.service", gpus="0,1", extra="--split-mode layer -ts 1,1")
OTHERS = tuple(
    replace(GPU0, unit=f"llama-server-gpu{card}.service", port=37080 + card, gpus=str(card))
    for card in (2, 3)
)
NEW = ("node1/gpu0", "node1/gpu1")
OPS = {"node1": "node1-ops"}


@pytest.fixture(scope="module")
def mixed(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node of four cards: a worker split over two of them, and one on each of the others.

    Its user ops has exactly what `sudoers --write-units` prints.
    """
    with Cluster() as made:
        node = made.add_node("node1", (BIG, *OTHERS), (P40,) * 4)
        put_balancer(
            node, ["127.0.0.1:37081 weight=2", "127.0.0.1:37082", "127.0.0.1:37083 max_fails=0"]
        )
        made.power_on()
        made.wait_serving(3)
        file = made.write_files(tmp_path_factory.mktemp("fragment"))
        file.write_text(file.read_text().replace('ssh = "node1"', 'ssh = "node1-ops"'))
        for option in ((), ("--write-units",)):
            words = ("sudoers", "--user", "ops", "-c", str(file), *option)
            done = asyncio.run(_ended(*words))
            assert ("install -m 0644" in done) is bool(option)
        assert "WHOEVER MAY WRITE A UNIT FILE IS ROOT" in done
        put(node, done)
        yield made


async def _ended(*words: str) -> str:
    done = await ended(await llamatop(*words))
    assert done.status == 0, done.stderr
    return done.stdout


def lines(cluster: Cluster) -> list[str]:
    return re.findall(r"^ +(server .*);$", cluster["node1"].read(CONF), re.MULTILINE)


def worker(at: Console, name: str) -> tuple[str | None, tuple[int, ...] | None, str | None]:
    found = at.collector.latest.worker(name)
    return found.topology, found.gpus, found.membership


async def without_room(cluster: Cluster, at: Console, action: Action, *workers: str) -> Plan:
    """The plan once other processes leave card 0 room for the new ones alone, not for both."""
    cards = [gpu.sample for gpu in at.collector.latest.gpus if gpu.sample.index in (0, 1)]
    taken = sum(used or 0 for card in cards for used in (card.processes or {}).values())
    assert taken
    for part in (2.0, 1.5, 1.0, 0.75, 0.5, 0.25, 0.1):
        cluster.gpus["node1"].set(0, memory_used=P40.memory_total - int(part * taken))
        await at.collector.refresh("node1")
        with suppress(Refused):
            plan = await at.plan(action, *workers)
            if "no room for both" in plan.about:
                return plan
    raise AssertionError("no such room was found")


async def test_one_process_a_card_and_back_while_streams_run(
    mixed: Cluster, tmp_path: Path
) -> None:
    before = mixed["node1"].read(CONF)
    async with console(mixed, tmp_path, 3, **OPS) as at:
        async with Load(mixed.url, concurrency=8) as load:
            await load.wait_tokens(200)
            assert worker(at, "node1/big") == ("layer-split", (0, 1), "in")
            assert worker(at, "node1/gpu2") == ("per-gpu", (2,), "in")
            async with asyncio.timeout(60):
                async for snapshot in at.collector.snapshots():
                    used = {g.sample.index: g.sample.utilization_percent for g in snapshot.gpus}
                    if all(used.values()):
                        break
            assert set(used) == {0, 1, 2, 3}
            plan = await at.plan("unsplit", "node1/big")
            print(plan.text())
            assert "room for both" in plan.about
            await at.execute(plan)
            assert lines(mixed) == [
                "server 127.0.0.1:37081 weight=2 down",
                "server 127.0.0.1:37084 weight=2",
                "server 127.0.0.1:37085 weight=2",
                "server 127.0.0.1:37082",
                "server 127.0.0.1:37083 max_fails=0",
            ]
            for card, name in enumerate(NEW):
                assert worker(at, name) == ("per-gpu", (card,), "in")
            big = at.collector.latest.worker("node1/big").unit
            assert (big.active_state, big.unit_file_state) == ("inactive", "disabled")
            text = mixed["node1"].read(f"{UNITS}/llama-server-gpu1.service")
            assert text.splitlines()[1:] == [
                line.replace("CUDA_VISIBLE_DEVICES=0,1", "CUDA_VISIBLE_DEVICES=1")
                .replace("--port 37081", "--port 37085")
                .replace(" --split-mode layer -ts 1,1", "")
                for line in BIG.text().splitlines()
            ]
            members = {"127.0.0.1:37084", "127.0.0.1:37085"}
            async with asyncio.timeout(60):
                while not members <= set(load.by_member):
                    await load.wait_tokens(1)
            # Now the cards have no room for both: the old ones leave before the new one comes.
            plan = await without_room(mixed, at, "split", *NEW)
            assert not [step for step in plan.steps if step.unit_file], "the old unit is there"
            await at.execute(plan)
            assert worker(at, "node1/big") == ("layer-split", (0, 1), "in")
            await load.wait_tokens(200)
            await load.finish()
        assert (load.cut, load.failed) == ([], [])
        now = lines(mixed)
        assert now[0] == "server 127.0.0.1:37081 weight=2"
        assert now[1:3] == [f"server 127.0.0.1:{p} weight=2 down" for p in (37084, 37085)]
        again = await at.plan("unsplit", "node1/big")
        assert not [step for step in again.steps if step.unit_file], "they are there"
    mixed.gpus["node1"].set(0, memory_used=None)
    node = mixed["node1"]
    for name in ("gpu0", "gpu1"):
        (node.root / f"{UNITS.lstrip('/')}/llama-server-{name}.service").unlink()
    node.systemctl("daemon-reload")
    node.write(CONF, before)
    node.systemctl("reload", "nginx")


async def test_a_new_worker_that_does_not_come_up_is_undone(mixed: Cluster, tmp_path: Path) -> None:
    node = mixed["node1"]
    before, names = node.read(CONF), sorted(p.name for p in (node.root / UNITS[1:]).iterdir())
    async with (
        console(mixed, tmp_path, 3, **OPS) as at,
        Load(mixed.url, concurrency=8) as load,
    ):
        await load.wait_tokens(100)
        plan = await without_room(mixed, at, "unsplit", "node1/big")
        node.write(
            f"{UNITS}/llama-server-gpu1.service.d/broken.conf",
            "[Service]\nExecStart=\nExecStart=/opt/llama/llama-server --no-such-flag\n",
        )
        # ops is in none of the journal's groups: what it may read by sudo names the flag.
        told = r"gpu1.*systemd starts it again.*journal ends with: .*no-such-flag.*undone"
        with pytest.raises(PlanFailed, match=told) as failed:
            await at.execute(plan)
        print(failed.value)
        await load.wait_tokens(100)
        await load.finish()
        assert (load.cut, load.failed) == ([], [])
        assert worker(at, "node1/big") == ("layer-split", (0, 1), "in")
        assert at.collector.latest.worker("node1/big").unit.unit_file_state == "enabled"
    mixed.gpus["node1"].set(0, memory_used=None)
    (node.root / f"{UNITS[1:]}/llama-server-gpu1.service.d/broken.conf").unlink()
    (node.root / f"{UNITS[1:]}/llama-server-gpu1.service.d").rmdir()
    assert node.read(CONF) == before
    assert sorted(p.name for p in (node.root / UNITS[1:]).iterdir()) == names
    failed_units = node.run(["systemctl", "list-units", "--failed", "--no-legend", "--plain"])
    assert "llama" not in failed_units.stdout


async def test_without_the_right_to_write_units_nothing_is_begun(
    mixed: Cluster, tmp_path: Path
) -> None:
    sudoers = mixed["node1"].root / "etc/sudoers.d/llamatop"
    text = sudoers.read_text()
    put(mixed["node1"], "".join(x for x in text.splitlines(True) if "/install " not in x))
    try:
        async with console(mixed, tmp_path, 3, **OPS) as at:
            with pytest.raises(NodeError, match=r"nothing was begun.*--write-units"):
                await at.plan("unsplit", "node1/big")
    finally:
        put(mixed["node1"], text)
