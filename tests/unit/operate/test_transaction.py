"""The program on the balancer against a real nginx, whatever happens on the way."""

from __future__ import annotations

import os
import re
import signal
import socket
from contextlib import suppress

import pytest

from tests.unit.operate.real_nginx import UPSTREAM, RealNginx

pytestmark = pytest.mark.slow

DOWN = UPSTREAM.replace(b":9;", b":9 down;")


def names(events: list[dict[str, object]]) -> list[object]:
    return [event["event"] for event in events]


def test_writes_tests_reloads_and_confirms(real: RealNginx) -> None:
    old = real.workers()
    events = real.run(real.request())
    assert names(events) == ["locked", "written", "tested", "reloaded", "confirmed", "done"]
    assert real.target.read_bytes() == DOWN
    assert set(events[4]["workers"]) <= real.workers() - old
    assert len(events[4]["workers"]) >= 1
    assert real.leftovers() == []
    assert real.site.is_symlink()


def test_owner_mode_and_attributes_stay(real: RealNginx) -> None:
    real.target.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real.target, 1234, 2345)
    tagged = False
    with suppress(OSError):
        os.setxattr(real.target, "user.note", b"mine")
        tagged = True
    before = real.target.stat()
    real.run(real.request())
    after = real.target.stat()
    assert after.st_ino != before.st_ino
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )
    assert not tagged or os.getxattr(real.target, "user.note") == b"mine"


def test_a_text_that_nginx_refuses_is_taken_back(real: RealNginx) -> None:
    old, stamp = real.workers(), real.target.stat().st_mtime_ns
    events = real.run(real.request(after=UPSTREAM.replace(b":10", b":nonsense")))
    assert names(events) == ["locked", "written", "restored", "failed"]
    assert events[-1]["step"] == "test"
    assert "invalid port" in str(events[-1]["error"])
    assert real.target.read_bytes() == UPSTREAM
    assert real.target.stat().st_mtime_ns == stamp
    assert (real.workers(), real.leftovers()) == (old, [])


def test_an_unrelated_fault_of_the_configuration_is_told_apart(real: RealNginx) -> None:
    (real.root / "conf.d" / "other.conf").write_text("nonsense on;")
    events = real.run(real.request())
    assert events[-1]["step"] == "test"
    assert "invalid before the change" in str(events[-1]["error"])
    assert 'unknown directive "nonsense"' in str(events[-1]["error"])
    assert real.target.read_bytes() == UPSTREAM


def test_a_file_changed_by_another_hand_is_left_alone(real: RealNginx) -> None:
    request = real.request()
    real.target.write_bytes(UPSTREAM + b"\n# theirs\n")
    events = real.run(request)
    assert names(events) == ["locked", "failed"]
    assert events[-1]["step"] == "changed"
    assert real.target.read_bytes() == UPSTREAM + b"\n# theirs\n"


def test_a_link_that_leads_elsewhere_now_is_left_alone(real: RealNginx) -> None:
    request = real.request()
    other = real.target.with_name("other")
    other.write_bytes(UPSTREAM)
    real.site.unlink()
    real.site.symlink_to(other)
    assert real.run(request)[-1]["step"] == "changed"


def test_asked_again_it_only_reloads(real: RealNginx) -> None:
    request = real.request()
    real.run(request)
    inode = real.target.stat().st_ino
    assert names(real.run(request)) == ["locked", "tested", "reloaded", "confirmed", "done"]
    assert real.target.stat().st_ino == inode


def test_a_full_disk_leaves_the_old_file(real: RealNginx) -> None:
    real.script("dd", 'head -c 5 >"${1#of=}"; echo "No space left on device" >&2; exit 1')
    events = real.run(real.request())
    assert names(events) == ["locked", "failed"]
    assert events[-1]["error"] == (
        f"no space is left for the new text beside {real.target}, which is as it was: free some"
        f" there (`df -h {real.target.parent}` shows it, with -i the file names) and try again"
    )
    assert (real.target.read_bytes(), real.leftovers()) == (UPSTREAM, [])


def test_half_a_text_is_never_swapped_in(real: RealNginx) -> None:
    real.script("dd", 'head -c 5 >"${1#of=}"')
    events = real.run(real.request())
    assert "does not hold what was written" in str(events[-1]["error"])
    assert (real.target.read_bytes(), real.leftovers()) == (UPSTREAM, [])


def test_nginx_that_does_not_run_is_said_and_the_file_is_as_before(real: RealNginx) -> None:
    real.stop()
    events = real.run(real.request(pid_file=str(real.root / "none.pid")))
    assert events[-1]["step"] == "reload"
    assert "nginx is not running" in str(events[-1]["error"])
    assert real.target.read_bytes() == UPSTREAM


def test_a_reload_that_brings_no_new_workers_is_taken_back(real: RealNginx) -> None:
    events = real.run(real.request(reload=["true"], confirm_seconds=0.2))
    assert names(events) == ["locked", "written", "tested", "reloaded", "restored", "failed"]
    assert events[-1]["step"] == "confirm"
    assert real.target.read_bytes() == UPSTREAM


def test_the_operators_own_way_to_reload_needs_no_nginx_in_sight(real: RealNginx) -> None:
    reload = ["sh", "-c", f"{' '.join(real.argv('-s', 'reload'))} && touch {real.root}/reloaded"]
    events = real.run(real.request(own_reload=True, reload=reload, unit="docker.service"))
    assert names(events)[-1] == "done"
    assert (real.root / "reloaded").exists()
    assert real.target.read_bytes() == DOWN


def test_an_nginx_that_cannot_be_seen_is_not_said_to_be_confirmed(real: RealNginx) -> None:
    (real.root / "proc").mkdir()
    request = real.request(own_reload=True, reload=["true"])
    events = real.run(request, HOST_PROC=str(real.root / "proc"))
    assert names(events) == ["locked", "written", "tested", "reloaded", "unconfirmed", "done"]


def test_the_nodes_own_journal_is_told_who_changed_what(real: RealNginx) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(real.root / "log"))
        log.settimeout(30)
        about = {"plan": "p1", "who": "ann@desk", "what": "drain", "returns": []}
        moved = {"about": about, "out": [["u", "127.0.0.1:9"]], "in": []}
        real.run(real.request(drains=moved))
        line = log.recv(4096).decode()
        assert re.fullmatch(
            r"<13>llamatop\[\d+\]: ann@desk: drain, plan p1: 127\.0\.0\.1:9 out in "
            + re.escape(f"{real.target}: done"),
            line,
        )
        real.run(real.request(test=["sh", "-c", "echo 'no\nway' >&2; exit 1"]))
        line = log.recv(4096).decode()
        assert "ended with status 1: no way" in line
        assert "\n" not in line


def test_the_lock_names_its_holder_and_the_next_one_waits(real: RealNginx) -> None:
    gate = real.root / "gate"
    os.mkfifo(gate)
    slow = ["sh", "-c", f"read line <{gate}; exec {' '.join(real.argv('-t'))}"]
    first = real.begin(real.request(test=slow))
    first.until("written")
    refused = real.run(real.request(holder="bob@desk", lock_seconds=0.2))
    assert names(refused) == ["failed"]
    assert str(refused[0]["error"]).startswith("locked by ann@desk: drain (pid ")
    second = real.begin(real.request(after=UPSTREAM, holder="bob@desk"))
    gate.write_text("go\n")
    assert names(list(first))[-1] == "done"
    assert names(list(second))[-1] == "done"
    assert real.target.read_bytes() == UPSTREAM


@pytest.mark.parametrize("event", ["locked", "written", "tested", "reloaded"])
def test_ssh_cut_anywhere_the_program_goes_on_to_the_end(real: RealNginx, event: str) -> None:
    transaction = real.begin(real.request())
    transaction.until(event)
    transaction.cut()
    real.wait_for_lock()
    assert real.target.read_bytes() == DOWN
    assert real.valid()
    assert real.leftovers() == []


@pytest.mark.parametrize("event", ["locked", "written", "tested", "reloaded"])
def test_the_program_itself_killed_leaves_a_whole_file_and_no_lock(
    real: RealNginx, event: str
) -> None:
    transaction = real.begin(real.request())
    transaction.until(event)
    with suppress(ProcessLookupError, IndexError):
        os.kill(transaction.child(), signal.SIGKILL)
    list(transaction)
    real.wait_for_lock()
    assert real.target.read_bytes() in (UPSTREAM, DOWN)
    assert real.valid()
    again = real.request(after=DOWN)
    assert names(real.run(again))[-1] == "done"
    assert real.leftovers() == []
