"""`llamatop discover` on a cluster that answers: the file it writes opens the same cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llamatop import config
from llamatop.model.declared import Balancer

from .conftest import Demo

pytestmark = pytest.mark.slow


def llamatop(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llamatop.cli.main", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=120,
    )


def test_discovered_written_and_opened(own_demo: Callable[..., Demo]) -> None:
    demo = own_demo("--fault", "unauthorized")
    here = demo.directory
    options = ("--ssh-config", "ssh_config", "--known-hosts", "known_hosts")
    done = llamatop("discover", "node1", "node2", *options, "-o", "found.toml", cwd=here)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "llamatop -c found.toml" in done.stderr
    cluster = config.load(here / "found.toml")
    assert [node.ssh for node in cluster.nodes] == ["node1", "node2"]
    assert cluster.balancer == Balancer("node1", "llama_cluster")
    keys = [worker.api_key_env for node in cluster.nodes for worker in node.workers]
    assert keys == ["LLAMA_API_KEY"]
    sample = json.loads(llamatop("status", "-c", "found.toml", "--json", cwd=here).stdout)
    assert {worker["membership"] for node in sample["nodes"] for worker in node["workers"]} == {
        "in"
    }
    again = llamatop("discover", "node1", *options, "-o", "found.toml", cwd=here)
    assert again.returncode == 4
    assert "--force" in again.stderr


def test_what_cannot_be_read(own_demo: Callable[..., Demo]) -> None:
    demo = own_demo()
    here = demo.directory
    options = ("--ssh-config", "ssh_config", "--known-hosts", "known_hosts")
    # The second host's name leads nowhere, quickly.
    some = llamatop("discover", "node1", "nobody@127.0.0.1:1", *options, cwd=here)
    assert some.returncode == 1
    (here / "some.toml").write_text(some.stdout)
    assert [node.name for node in config.load(here / "some.toml").nodes] == ["node1", "127.0.0.1"]
    assert "# 127.0.0.1 could not be read:" in some.stdout
    assert "127.0.0.1: " in some.stderr
    none = llamatop("discover", "nobody@127.0.0.1:1", *options, "-o", "none.toml", cwd=here)
    assert none.returncode == 3
    assert not (here / "none.toml").exists()


def test_wrong_usage_contacts_nobody(tmp_path: Path) -> None:
    assert llamatop("discover", cwd=tmp_path).returncode == 2
    assert llamatop("discover", "h", "-o", "no/such.toml", cwd=tmp_path).returncode == 2
