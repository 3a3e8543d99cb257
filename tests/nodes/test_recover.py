"""A llamatop killed while it holds members out, on real machines: found and put back later."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.nodes.cluster import Cluster
from tests.nodes.load import Load
from tests.nodes.test_operate import CONF, ended, llamatop


async def events(file: str) -> list[str]:
    done = await ended(await llamatop("status", "--json", "-c", file))
    return [event["text"] for event in json.loads(done.stdout)["events"]]


async def test_killed_while_draining_the_next_one_tells_and_puts_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    before = cluster["node1"].read(CONF)
    file = str(cluster.write_files(tmp_path))
    async with Load(cluster.url, concurrency=8, tokens=(400, 400)) as load:
        await load.wait_tokens(50)
        process = await llamatop("restart", "node1/gpu0", "-c", file, "--yes")
        async with asyncio.timeout(90):
            while cluster["node1"].read(CONF) == before:
                assert process.returncode is None, (await ended(process)).stderr
                await load.wait_tokens(1)
        process.kill()
        await process.wait()
        nothing = await ended(await llamatop("recover", "--yes", "-c", file))
        assert nothing.status == 0, nothing.stderr
        assert "nothing to do" in nothing.stdout, "its lease still runs"
        async with asyncio.timeout(90):
            while not (told := [t for t in await events(file) if "left drained" in t]):
                pass
    assert told[0].startswith("node1/gpu0 was left drained by ")
    assert told[0].endswith("(restart node1/gpu0): llamatop recover puts it back")
    shown = await ended(await llamatop("recover", "--dry-run", "-c", file))
    assert "wait until node1/gpu0 answers" in shown.stdout
    assert cluster["node1"].read(CONF) != before
    done = await ended(await llamatop("recover", "--yes", "-c", file))
    assert done.status == 0, done.stderr
    assert cluster["node1"].read(CONF) == before
    assert not [text for text in await events(file) if "left drained" in text]
    assert load.cut == []


async def test_a_drain_that_ended_is_no_leftover(cluster: Cluster, tmp_path: Path) -> None:
    before = cluster["node1"].read(CONF)
    file = str(cluster.write_files(tmp_path))
    assert (await ended(await llamatop("drain", "node2/gpu1", "-c", file, "--yes"))).status == 0
    assert not [text for text in await events(file) if "left drained" in text]
    assert (await ended(await llamatop("undrain", "node2/gpu1", "-c", file, "--yes"))).status == 0
    assert cluster["node1"].read(CONF) == before


async def test_a_transaction_killed_by_a_power_cut_is_repaired(
    cluster: Cluster, tmp_path: Path
) -> None:
    """The state that a cut between swap and test leaves, made with the very commands."""
    node = cluster["node1"]
    before = node.read(CONF)
    file = str(cluster.write_files(tmp_path))
    folder, name = CONF.rsplit("/", 1)
    old, new = (f"{folder}/.{name}.llamatop-{which}" for which in ("old", "new"))
    bad = before.replace("127.0.0.1:37081", "127.0.0.1:nonsense", 1)
    node.run(["ln", "-T", "--", CONF, old])
    node.run(["cp", "-a", "-T", "--", CONF, new])
    node.run(["sh", "-c", 'printf %s "$1" >"$2"', "sh", bad, new])
    node.run(["mv", "-f", "-T", "--", new, CONF])
    assert node.read(CONF) == bad
    shown = await ended(await llamatop("recover", "--dry-run", "-c", file))
    assert "clear away what a killed change left beside" in shown.stdout, shown.stderr
    done = await ended(await llamatop("recover", "--yes", "-c", file))
    assert done.status == 0, done.stderr
    assert node.read(CONF) == before
    assert node.run(["ls", "-A", folder]).stdout.split() == [name]
