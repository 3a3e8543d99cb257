"""The faults follow their file for as long as the demo runs, whatever one of them comes to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from llamatop.demo import trouble
from llamatop.demo.faults import Fault
from llamatop.demo.switches import Switches

BROKEN, SOUND = "hang-worker", "hot-gpu"
SECONDS = 60.0


async def test_a_fault_that_fails_is_logged_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    done: asyncio.Queue[str] = asyncio.Queue()

    async def fail(cluster: Any, victim: Any) -> None:
        raise OSError("no such victim")

    async def strike(cluster: Any, victim: Any) -> None:
        done.put_nowait("struck")

    async def heal(cluster: Any, victim: Any) -> None:
        done.put_nowait("healed")

    class Victim:
        reachable = True

    def victims(cluster: Any) -> list[Any]:
        return [Victim()]

    faults = {SOUND: Fault(victims, strike, heal), BROKEN: Fault(victims, fail, fail)}
    monkeypatch.setattr(trouble, "FAULTS", faults)
    switches = Switches(tmp_path)
    troubled = trouble.Trouble(cast(Any, None), switches)
    troubled.begin(())
    with switches.path.open("ab") as file:
        file.write(b"\xff not a fault\n")
    following = asyncio.create_task(troubled.follow(()))
    async with asyncio.timeout(SECONDS):
        for wanted, seen in ((set(faults), "struck"), (set(), "healed")) * 2:
            switches.write(list(faults), wanted)
            assert await done.get() == seen
    assert not following.done()
    following.cancel()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 4
    assert all(BROKEN in text for text in told)
