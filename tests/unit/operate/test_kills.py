"""The program on the balancer killed, as by SIGKILL or a power cut, at any moment."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress

import pytest

from tests.unit.operate.real_nginx import UPSTREAM, RealNginx, Transaction, until

pytestmark = pytest.mark.slow

DOWN = UPSTREAM.replace(b":9;", b":9 down;")
REFUSED = UPSTREAM.replace(b":10;", b":nonsense;")
PARTS = 4
# The long run: LLAMATOP_TEST_CUTS=1000
CUTS = int(os.environ.get("LLAMATOP_TEST_CUTS", "200"))


def names(events: list[dict[str, object]]) -> list[object]:
    return [event["event"] for event in events]


def kill(transaction: Transaction, *, all_of_it: bool) -> None:
    """SIGKILL to the program alone, which leaves its command running, or to that as well."""
    with suppress(ProcessLookupError, IndexError, FileNotFoundError):
        worker = transaction.child()
        (os.killpg if all_of_it else os.kill)(worker, signal.SIGKILL)


def cut(real: RealNginx, after: bytes, chance: random.Random, longest: float) -> bool:
    """Begin a transaction and kill it at a random moment; whether it was killed before its end."""
    transaction = real.begin(real.request(after=after))
    transaction.until("locked")
    time.sleep(chance.uniform(0, longest))
    kill(transaction, all_of_it=chance.random() < 0.5)
    ended = names(list(transaction))
    real.wait_for_lock()
    return not ended or ended[-1] not in ("done", "failed")


def repaired(real: RealNginx) -> list[dict[str, object]]:
    """What `llamatop recover` has the program do: repair, test and reload, change nothing."""
    return real.run(real.request(after=real.target.read_bytes()))


def duration(real: RealNginx) -> float:
    """Seconds from the lock to the end of a transaction that nobody disturbs."""
    longest = 0.0
    for after in (DOWN, UPSTREAM, DOWN, UPSTREAM):
        transaction = real.begin(real.request(after=after))
        transaction.until("locked")
        began = time.monotonic()
        list(transaction)
        longest = max(longest, time.monotonic() - began)
    return longest


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_any_moment_the_file_is_whole_valid_and_the_next_one_succeeds(
    real: RealNginx, part: int
) -> None:
    chance = random.Random(part)
    longest = duration(real)
    old, new, killed, mended = UPSTREAM, DOWN, 0, 0
    while killed < CUTS // PARTS:
        killed += cut(real, new, chance, longest)
        now = real.target.read_bytes()
        assert now in (old, new)
        assert real.valid()
        wanted = chance.choice((old, new))
        events = real.run(real.request(after=wanted))
        assert names(events)[-1] == "done", events
        mended += "repaired" in names(events)
        assert real.target.read_bytes() == wanted
        assert real.leftovers() == []
        old, new = wanted, DOWN if wanted == UPSTREAM else UPSTREAM
    assert mended > killed // 10, "hardly a kill left anything behind: nothing was tried"
    print(f"{killed} kills, {mended} left something to repair")


@pytest.mark.slow
def test_killed_with_a_text_that_nginx_refuses_the_old_one_comes_back(real: RealNginx) -> None:
    chance = random.Random(9)
    longest = duration(real) / 2
    brought_back = 0
    for _ in range(CUTS // 10):
        cut(real, REFUSED, chance, longest)
        assert real.target.read_bytes() in (UPSTREAM, REFUSED)
        events = repaired(real)
        assert names(events)[-1] == "done", events
        brought_back += any(event.get("put_back") for event in events)
        assert real.target.read_bytes() == UPSTREAM
        assert (real.valid(), real.leftovers()) == (True, [])
    print(f"{brought_back} of {CUTS // 10} brought the old file back")


def test_killed_before_the_test_the_old_file_comes_back(real: RealNginx) -> None:
    stamp = real.target.stat()
    gate = real.root / "gate"
    os.mkfifo(gate)
    transaction = real.begin(real.request(after=REFUSED, test=["cat", str(gate)]))
    transaction.until("written")
    kill(transaction, all_of_it=True)
    list(transaction)
    assert real.target.read_bytes() == REFUSED
    events = repaired(real)
    assert names(events) == ["locked", "repaired", "tested", "reloaded", "confirmed", "done"]
    assert events[1]["put_back"] == [str(real.target)]
    assert real.target.read_bytes() == UPSTREAM
    now = real.target.stat()
    assert (now.st_ino, now.st_mtime_ns) == (stamp.st_ino, stamp.st_mtime_ns)
    assert real.leftovers() == []


def test_killed_with_a_good_text_the_new_file_stays(real: RealNginx) -> None:
    gate = real.root / "gate"
    os.mkfifo(gate)
    transaction = real.begin(real.request(test=["cat", str(gate)]))
    transaction.until("written")
    kill(transaction, all_of_it=True)
    list(transaction)
    events = repaired(real)
    assert events[1] == {"event": "repaired", "tidied": [str(real.target)], "put_back": []}
    assert names(events)[-1] == "done"
    assert real.target.read_bytes() == DOWN
    assert real.leftovers() == []


def test_what_another_hand_wrote_since_is_never_taken_back(real: RealNginx) -> None:
    gate = real.root / "gate"
    os.mkfifo(gate)
    transaction = real.begin(real.request(after=REFUSED, test=["cat", str(gate)]))
    transaction.until("written")
    kill(transaction, all_of_it=True)
    list(transaction)
    # Somebody comes to mend it much later, and errs.
    time.sleep(1.1)
    theirs = REFUSED.replace(b"nonsense", b"nonsense2")
    real.target.write_bytes(theirs)
    events = repaired(real)
    assert names(events) == ["locked", "repaired", "failed"]
    assert events[1]["put_back"] == []
    assert events[-1]["step"] == "test"
    assert real.target.read_bytes() == theirs
    assert real.leftovers() == []


def test_the_lock_of_a_holder_that_is_gone_goes_to_the_next(real: RealNginx) -> None:
    gate = real.root / "gate"
    os.mkfifo(gate)
    first = real.begin(real.request(test=["cat", str(gate)]))
    first.until("written")
    second = real.begin(real.request(after=UPSTREAM, holder="bob@desk", lock_seconds=60))
    refused = real.run(real.request(holder="eve@desk", lock_seconds=0.1))
    assert "locked by ann@desk: drain (pid " in str(refused[-1]["error"])
    kill(first, all_of_it=True)
    list(first)
    assert names(list(second)) == [
        "locked", "repaired", "written", "tested", "reloaded", "confirmed", "done",
    ]  # fmt: skip
    assert real.target.read_bytes() == UPSTREAM
    lock = real.root / "lock" / "llamatop-membership.lock"
    assert lock.read_bytes() == b"", "nobody holds it, so it names nobody"


def test_a_command_that_outlives_the_program_keeps_the_lock(real: RealNginx) -> None:
    gate = real.root / "gate"
    os.mkfifo(gate)
    begun = real.root / "begun"
    real.script("mv", f'touch {begun}; read line <{gate}; exec /bin/mv "$@"')
    transaction = real.begin(real.request())
    transaction.until("locked")
    until(begun.exists, 30)
    kill(transaction, all_of_it=False)
    refused = real.run(real.request(holder="bob@desk", lock_seconds=0.2))
    assert "locked by ann@desk: drain" in str(refused[-1]["error"])
    assert "locked by ann@desk: drain" in str(
        real.run(real.request(holder="bob@desk", lock_seconds=0.2))[-1]["error"]
    )
    gate.write_text("go\n")
    real.wait_for_lock()
    (real.root / "bin" / "mv").unlink()
    assert real.target.read_bytes() == DOWN
    events = real.run(real.request(after=UPSTREAM, holder="bob@desk"))
    assert names(events)[:2] == ["locked", "repaired"]
    assert names(events)[-1] == "done"
