"""A user with exactly the printed sudoers fragment, on real machines with a real sudo."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llamatop.errors import NodeError
from tests.nodes.cluster import GPU0, Cluster
from tests.nodes.load import Load
from tests.nodes.machine import Machine
from tests.nodes.test_operate import CONF, MEMBER, console, ended, llamatop
from tests.nodes.watch import llamatop as at_once

NODES = ("node1", "node2")
OPS = {node: f"{node}-ops" for node in NODES}


@pytest.fixture(scope="module")
def fragments(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `llamatop sudoers` prints for each node, asked as the user who has no right yet."""
    directory = tmp_path_factory.mktemp("fragments")
    file = cluster.write_files(directory)
    file.write_text(re.sub(r'ssh = "(node\d)"', r'ssh = "\1-ops"', file.read_text()))

    async def printed(node: str) -> str:
        words = ("sudoers", "--user", "ops", "--node", node, "-c", str(file))
        done = await ended(await llamatop(*words))
        assert done.status == 0, done.stderr
        return done.stdout

    return {node: asyncio.run(printed(node)) for node in NODES}


@contextmanager
def allowed(cluster: Cluster, fragments: dict[str, str], without: str = "") -> Iterator[None]:
    """The fragments in place, one line of node1's left out."""
    files = []
    try:
        for node, text in fragments.items():
            lines = text.splitlines(keepends=True)
            if node == "node1" and without:
                kept = [line for line in lines if without not in line]
                assert len(kept) == len(lines) - 1, without
                lines = kept
            files.append(put(cluster[node], "".join(lines)))
        yield
    finally:
        for file in files:
            file.unlink()


def put(machine: Machine, text: str) -> Path:
    machine.write("/etc/sudoers.d/llamatop", text)
    file = machine.root / "etc/sudoers.d/llamatop"
    file.chmod(0o440)
    done = machine.run(["visudo", "-c"], check=False)
    assert "llamatop: parsed OK" in done.stdout + done.stderr
    return file


async def test_with_the_fragment_alone_everything_can_be_done(
    cluster: Cluster, fragments: dict[str, str], tmp_path: Path
) -> None:
    before = cluster["node1"].read(CONF)
    with allowed(cluster, fragments):
        async with console(cluster, tmp_path, **OPS) as at:
            async with Load(cluster.url, concurrency=6) as load:
                await load.wait_tokens(100)
                for worker in MEMBER:
                    results = await at.do("restart", worker)
                    drained = [r for r in results if r.step.kind == "wait-drained"]
                    print(worker, [r.progress for r in drained])
                    assert not any("known" in r.progress for r in drained)
                await load.finish()
            assert (load.cut, load.failed) == ([], [])
            await at.do("drain", "node2/gpu0")
            await at.do("undrain", "node2/gpu0")
            await at.do("stop", "node1/gpu1")
            await at.do("start", "node1/gpu1")
            await at.do("undrain", "node1/gpu1")
            await at.do("disable", "node2/gpu0")
            await at.do("enable", "node2/gpu0")
            await at.do("restart", "node1/llama-tunnel-node2")
            lines = [line async for line in at.collector.journal("node1/gpu1", 5, follow=False)]
            assert len(lines) == 5
            followed = at.collector.journal("node2/gpu0", 3, follow=True)
            async with asyncio.timeout(30):
                assert [await anext(followed) for _ in range(3)]
            await followed.aclose()
        journals = [
            cluster[node].run(["journalctl", "-t", "llamatop", "-o", "cat"]).stdout
            for node in NODES
        ]
        assert f": 127.0.0.1:37083 out in {CONF}: done" in journals[0]
        assert (
            "drain node2/gpu0: step 2 (wait until nothing runs on node2/gpu0) done" in journals[1]
        )
        for node in NODES:
            for words in ("id", "systemctl stop ssh", "sh -c id", f"cat {CONF}", "nginx -s stop"):
                assert cluster[node].ssh(f"sudo -n {words}", user="ops").returncode != 0, words
        assert "least_conn" in cluster["node1"].ssh("sudo -n nginx -T", user="ops").stdout
    assert cluster["node1"].read(CONF) == before


def test_the_doctor_names_the_rights_that_are_missing(
    cluster: Cluster, fragments: dict[str, str], tmp_path: Path
) -> None:
    file = cluster.write_files(tmp_path)
    file.write_text(re.sub(r'ssh = "(node\d)"', r'ssh = "\1-ops"', file.read_text()))

    def told(*options: str) -> list[tuple[str, str, str]]:
        done = at_once(*options, "doctor", "--json", "-c", str(file))
        findings = json.loads(done.stdout)["findings"]
        assert {one["id"] for one in findings} <= {"sudo-rights"}, findings
        print(done.stdout)
        return [(one["place"], one["severity"], one["evidence"]) for one in findings]

    assert [one[:2] for one in told()] == [("node1", "info"), ("node2", "info")]
    assert told("--read-only") == []
    with allowed(cluster, fragments):
        assert told() == []
    with allowed(cluster, fragments, "restart -- llama-server-gpu0"):
        ((place, severity, evidence),) = told()
    assert (place, severity) == ("node1", "warning")
    assert "`systemctl --no-ask-password restart -- llama-server-gpu0.service`" in evidence


@pytest.mark.parametrize(
    "without",
    [
        "/ln -T",
        "/cp -a",
        "/dd of",
        "/mv -f -T -- /etc/nginx/conf.d/.llama_cluster.conf.llamatop-new",
        "/mv -f -T -- /etc/nginx/conf.d/.llama_cluster.conf.llamatop-old",
        "/rm -f",
        "nginx -t",
        "reload -- nginx",
        "restart -- llama-server-gpu0",
    ],
)
async def test_with_one_line_less_it_is_named_before_the_first_step(
    cluster: Cluster, fragments: dict[str, str], tmp_path: Path, without: str
) -> None:
    before = cluster["node1"].read(CONF)
    inode = (cluster["node1"].root / CONF.lstrip("/")).stat().st_ino
    with allowed(cluster, fragments, without):
        async with console(cluster, tmp_path, **OPS) as at:
            with pytest.raises(
                NodeError, match=r"sudo does not let you run .*nothing was begun"
            ) as e:
                await at.plan("restart", "node1/gpu0")
    assert without.lstrip("/") in str(e.value)
    assert cluster["node1"].read(CONF) == before
    assert (cluster["node1"].root / CONF.lstrip("/")).stat().st_ino == inode


@pytest.mark.parametrize(
    ("sudoers", "named"),
    [
        ("ops ALL=(ALL) ALL\n", "ln -T -- "),
        (
            "ops ALL=(ALL) ALL\n"
            "ops ALL=(root) NOPASSWD: /usr/bin/ln *, /usr/bin/cp *, /usr/bin/dd *, /usr/bin/mv *,"
            " /usr/bin/rm *, /usr/sbin/nginx -t\n",
            "systemctl --no-ask-password reload -- nginx.service",
        ),
        ("ops ALL=(ALL) NOPASSWD: ALL\nops ALL=(ALL) PASSWD: /usr/sbin/nginx -t\n", "nginx -t"),
    ],
)
async def test_a_sudo_that_asks_for_a_password_is_named_before_the_first_step(
    cluster: Cluster, tmp_path: Path, sudoers: str, named: str
) -> None:
    node = cluster["node1"]
    before = node.read(CONF)
    pid = node.systemctl("show", "-p", "MainPID", GPU0.unit)
    with allowed(cluster, {"node1": sudoers}):
        file = cluster.write_files(tmp_path)
        file.write_text(file.read_text().replace('ssh = "node1"', 'ssh = "node1-ops"'))
        # It has a minute to end, and nobody there to type a password.
        done = await ended(await llamatop("restart", "node1/gpu0", "--yes", "-c", str(file)))
    assert done.status == 1, done.stderr
    assert f"node1: sudo does not let you run `{named}" in done.stderr
    assert "without a password" in done.stderr
    assert (
        "so nothing was begun; `llamatop sudoers --user USER` prints what to allow" in done.stderr
    )
    assert node.read(CONF) == before
    assert node.systemctl("show", "-p", "MainPID", GPU0.unit) == pid
