"""nginx on a node of files: what runs, what is on disk, what is newer, what still drains."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamatop.probe import balancer as balancer_part
from llamatop.probe import includes, procfs
from llamatop.probe.balancer import Balancer
from llamatop.probe.child import Ended
from llamatop.probe.processes import Processes
from llamatop.probe.reactor import Reactor

from .node import FakeNode

pytestmark = pytest.mark.slow

MAIN = """events {}
# include /not/this.conf;
http { include "sites/*.conf"; include mime.types; log_format x 'include /nor/this;'; }
"""


@pytest.fixture
def nginx(node: FakeNode) -> FakeNode:
    """nginx running since an hour ago, its configuration older than that."""
    folder = node.root / "nginx"
    (folder / "sites").mkdir(parents=True)
    (folder / "nginx.conf").write_text(MAIN)
    (folder / "mime.types").write_text("types { text/html html; }\n")
    (folder / "sites/a.conf").write_bytes(b"upstream u { server 127.0.0.1:1; } # \xe9\n")
    node.tool(
        "nginx",
        f"#!/bin/sh\necho 'nginx version: nginx/1.22.1' >&2\n"
        f"echo 'configure arguments: --prefix=/x --conf-path={folder}/nginx.conf' >&2\n",
    )
    node.process(50, ["nginx: master process nginx -g daemon on;"], unit="nginx.service")
    started(node, 51, time.time() + 60)
    return node


def started(node: FakeNode, pid: int, at: float, title: str = "nginx: worker process") -> None:
    """A worker of nginx that started at a moment of the node's own clock."""
    (node.proc / "uptime").write_text("100000.00 1.00\n")
    ticks = int((at - (time.time() - 100000)) * os.sysconf("SC_CLK_TCK"))
    node.process(pid, [title], unit="nginx.service", parent=50, start=ticks)


def balancer(node: FakeNode, wanted: Any) -> Any:
    running = node.start(balancer={"kind": "nginx"})
    found = running.until(lambda d: d.get("balancer") and wanted(d["balancer"]))["balancer"]
    running.close()
    return found


def test_what_plans_left_drained_is_read_from_their_users_records(nginx: FakeNode) -> None:
    line = {
        "event": "out",
        "at": time.time() - 720,
        "plan": "p1",
        "who": "ann@laptop",
        "what": "roll",
        "members": [["u", "127.0.0.1:1"]],
    }
    record = nginx.root / f"llamatop-drains-{os.geteuid()}.jsonl"
    record.write_text(json.dumps(line) + "\n")
    running = nginx.start(
        balancer={"kind": "nginx"}, environment={"LLAMATOP_DRAINS_DIRECTORY": str(nginx.root)}
    )
    found = running.until(lambda d: d.get("balancer") and d["balancer"].get("left"))
    (left,) = found["balancer"]["left"]
    assert left == {
        "upstream": "u",
        "address": "127.0.0.1:1",
        "plan": "p1",
        "who": "ann@laptop",
        "what": "roll",
        "minutes": 12,
    }
    record.unlink()
    running.until(lambda d: "left" not in d["balancer"])
    running.close()


def test_the_files_that_matter_with_their_includes(nginx: FakeNode) -> None:
    found = balancer(nginx, lambda b: b.get("version"))
    folder = str(nginx.root / "nginx")
    assert found["running"] is True
    assert found["unit"] == "nginx.service"
    assert found["version"] == "1.22.1"
    assert found["main"] == folder + "/nginx.conf"
    assert set(found["files"]) == {folder + "/nginx.conf", folder + "/sites/a.conf"}
    text = found["files"][folder + "/sites/a.conf"]["text"]
    assert text.encode("latin-1") == b"upstream u { server 127.0.0.1:1; } # \xe9\n"
    assert found["reload_pending"] is False
    assert found["draining_processes"] == 0
    assert found["draining_connections"] == {}
    assert "fault" not in found


def test_a_changed_and_a_new_file_are_seen_and_a_reload_is_pending(nginx: FakeNode) -> None:
    started(nginx, 51, time.time() - 3600)
    running = nginx.start(balancer={"kind": "nginx"})
    running.until(lambda d: d.get("balancer", {}).get("version"))
    folder = nginx.root / "nginx/sites"
    (folder / "b.conf").write_text("upstream v { server 127.0.0.1:2; }\n")
    (folder / "a.new").write_text("upstream u { server 127.0.0.1:1 down; }\n")
    (folder / "a.new").rename(folder / "a.conf")
    document = running.until(lambda d: len(d["balancer"]["files"]) == 3)
    assert "down" in document["balancer"]["files"][str(folder / "a.conf")]["text"]
    assert document["balancer"]["reload_pending"] is True
    patch = running.line()
    assert patch is not None
    assert "balancer" not in patch
    running.close()


def test_an_older_worker_that_drains_is_counted_with_its_connections(nginx: FakeNode) -> None:
    started(nginx, 52, time.time() - 50, "nginx: worker process is shutting down")
    (nginx.proc / "52/fd").mkdir()
    (nginx.proc / "52/fd/3").symlink_to("socket:[777]")
    (nginx.proc / "52/fd/4").symlink_to("socket:[778]")
    (nginx.proc / "52/net").mkdir()
    (nginx.proc / "52/net/tcp").write_text(
        "  sl  local_address rem_address   st tx rx tr tm when retrnsmt uid timeout inode\n"
        "   0: 0100007F:C350 0100007F:90D9 01 0:0 00:0 0 33 0 777 1\n"
        "   1: 0100007F:C351 0100007F:90D9 01 0:0 00:0 0 33 0 999 1\n"
        "   2: 0100007F:1F90 00000000:0000 0A 0:0 00:0 0 33 0 778 1\n"
    )
    found = balancer(nginx, lambda b: b.get("draining_processes"))
    assert found["draining_processes"] == 1
    assert found["draining_connections"] == {"127.0.0.1:37081": 1}


def test_who_listens_as_nginx_sees_it(nginx: FakeNode) -> None:
    head = "  sl  local_address rem_address   st tx rx tr tm when retrnsmt uid timeout inode\n"
    (nginx.proc / "50/net").mkdir()
    (nginx.proc / "50/net/tcp").write_text(
        head + "   0: 0100007F:90D9 00000000:0000 0A 0:0 00:0 0 33 0 778 1\n"
        "   1: 00000000:0016 00000000:0000 0A 0:0 00:0 0 33 0 779 1\n"
        "   2: 0100007F:C350 0100007F:90D9 01 0:0 00:0 0 33 0 777 1\n"
    )
    (nginx.proc / "50/net/tcp6").write_text(
        head + f"   0: {32 * '0'}:0050 {32 * '0'}:0000 0A 0:0 00:0 0 33 0 780 1\n"
    )
    found = balancer(nginx, lambda b: b.get("listening"))
    assert found["listening"] == ["0.0.0.0:22", "127.0.0.1:37081", "[::]:80"]


def test_files_that_only_say_how_requests_pass_are_sent(nginx: FakeNode) -> None:
    folder = nginx.root / "nginx/sites"
    (folder / "proxy.conf").write_text("proxy_buffering off;\n")
    (folder / "who.conf").write_text("allow 10.0.0.0/8;\ndeny all;\n")
    (folder / "log.conf").write_text("gzip off;\n")
    found = balancer(nginx, lambda b: b.get("version"))
    sent = {Path(path).name for path in found["files"]}
    assert sent == {"nginx.conf", "a.conf", "proxy.conf", "who.conf"}


def test_where_descriptors_are_closed_to_us_the_owner_tells_the_connections(
    nginx: FakeNode,
) -> None:
    started(nginx, 52, time.time() - 50, "nginx: worker process is shutting down")
    # Root may read everything, so what cannot be read here is what is no folder.
    (nginx.proc / "52/fd").write_text("")
    (nginx.proc / "52/net").mkdir()
    owner = os.stat(nginx.proc / "52").st_uid
    (nginx.proc / "52/net/tcp").write_text(
        "  sl  local_address rem_address   st tx rx tr tm when retrnsmt uid timeout inode\n"
        f"   0: 0100007F:C350 0100007F:90D9 01 0:0 00:0 0 {owner} 0 777 1\n"
        f"   1: 0100007F:C351 0100007F:90D9 01 0:0 00:0 0 {owner + 1} 0 999 1\n"
    )
    found = balancer(nginx, lambda b: b.get("draining_processes"))
    assert found["draining_connections"] == {"127.0.0.1:37081": 1}


def test_a_file_that_is_missing_is_one_clear_fault(nginx: FakeNode) -> None:
    (nginx.root / "nginx/mime.types").unlink()
    found = balancer(nginx, lambda b: b.get("fault"))
    assert "mime.types: no such file" in found["fault"]
    assert len(found["files"]) == 2


def test_a_file_of_endless_size_is_named_and_left_out(nginx: FakeNode) -> None:
    huge = nginx.root / "nginx/sites/b.conf"
    huge.write_bytes(b"upstream v { server 127.0.0.1:2; }\n" * 20000)
    found = balancer(nginx, lambda b: b.get("fault"))
    assert found["fault"] == f"{huge}: larger than 512 KiB, so it is left out"
    assert str(huge) not in found["files"]
    assert str(nginx.root / "nginx/sites/a.conf") in found["files"]


def test_the_masters_own_option_wins(nginx: FakeNode) -> None:
    other = nginx.root / "other.conf"
    other.write_text("events {}\n")
    nginx.process(50, [f"nginx: master process nginx -c {other}"], unit="nginx.service")
    assert balancer(nginx, lambda b: b.get("version"))["main"] == str(other)


def test_files_are_nobodys_until_nginx_has_told_which_are_its_own(
    nginx: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(balancer_part, "Child", lambda *given, both: asked.append(given[3]))
    monkeypatch.setattr(procfs, "ROOT", str(nginx.proc))
    monkeypatch.setattr(balancer_part, "_DEFAULT", str(nginx.root / "nginx/sites/a.conf"))
    now = time.monotonic()
    monkeypatch.setattr(balancer_part.time, "monotonic", lambda: now)
    part = Balancer(Reactor(), Processes())
    part.start()
    asked[0](Ended(-9, b"", "nginx did not end within 5 s", 5.0, late=True))
    part.start()
    assert len(asked) == 1
    assert "files" not in part.sample()
    now += 10
    part.start()
    main = f"{nginx.root}/nginx/nginx.conf"
    asked[1](Ended(0, f"configure arguments: --conf-path={main}".encode(), None, 0.1))
    assert part.answered
    assert main in part.sample()["files"]
    # Where it cannot be asked its usual place is looked at.
    other = Balancer(Reactor(), Processes())
    other.start()
    asked[2](Ended(-1, b"", "nginx is not on PATH", 0.0, missing=True))
    assert list(other.sample()["files"]) == [f"{nginx.root}/nginx/sites/a.conf"]


def test_where_no_nginx_is(node: FakeNode) -> None:
    node.tool("nginx", "#!/bin/sh\nexit 127\n")
    found = balancer(node, lambda b: True)
    assert found["running"] is False


@given(st.binary())
def test_any_bytes_have_some_includes(data: bytes) -> None:
    for pattern in includes.patterns(data):
        assert isinstance(pattern, str)


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        (b"include a;include 'b c';", ["a", "b c"]),
        (b"http{include x/*.conf;#include y;\n}", ["x/*.conf"]),
        (b"set $x ${include}; include;", []),
        (b'add_header X "include z;";', []),
        (b"include", []),
    ],
)
def test_includes(text: bytes, patterns: list[str]) -> None:
    assert includes.patterns(text) == patterns


def test_a_loop_of_includes_ends(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("include b;")
    (tmp_path / "b").write_text("include a; include b;")
    files = includes.Files().read(str(tmp_path / "a"), str(tmp_path))
    assert set(files) == {str(tmp_path / "a"), str(tmp_path / "b")}
