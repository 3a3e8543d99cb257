"""What is written down of a split or unsplit on its node, and who is kept from it by that."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from llamatop.operate.onnode import drains as writing
from llamatop.operate.onnode import reshapes
from llamatop.operate.onnode.running import Failed
from llamatop.probe import drains

BIG, GPU0 = "llama-server-big.service", "llama-server-gpu0.service"
MINE = [{"news": [[GPU0, "d1", False]], "olds": [[BIG, "", True]]}]
OTHERS = [{"news": [["llama-server-gpu7.service", "d7", False]], "olds": []}]


def about(plan: str) -> dict[str, object]:
    return {"plan": plan, "who": "ann@laptop", "what": "unsplit node1/big", "returns": []}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLAMATOP_DRAINS_DIRECTORY", str(tmp_path))
    return tmp_path


def later(place: Path) -> None:
    """Let half a minute pass."""
    for file in place.glob("llamatop-drains-*"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for line in lines:
            line["at"] -= drains.LEASE_SECONDS
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_plan_under_way_keeps_others_from_its_units_alone(place: Path) -> None:
    reshapes.begin(about("p1"), MINE)
    with pytest.raises(Failed, match=r"locked by .*ann@laptop.*has not ended") as failed:
        reshapes.begin(about("p2"), MINE)
    assert failed.value.step == "lock"
    reshapes.begin(about("p3"), OTHERS)
    # Asked again after a cut connection.
    reshapes.begin(about("p1"), MINE)
    assert [one["over"] for one in reshapes.found(time.time())] == [False, False]


def test_one_that_was_cut_off_is_found_until_it_is_said_to_be_over(place: Path) -> None:
    reshapes.begin(about("p1"), MINE)
    later(place)
    (found,) = reshapes.found(time.time())
    assert (found["over"], found["plan"], found["reshapings"]) == (True, "p1", MINE)
    with pytest.raises(Failed, match="was cut off: llamatop recover first"):
        reshapes.begin(about("p2"), MINE)
    writing.note(about("p1"), "renewed")
    assert not reshapes.found(time.time())[0]["over"]
    writing.note({"plan": "p1", "who": "bob@desk"}, "ended")
    assert reshapes.found(time.time()) == []
    reshapes.begin(about("p2"), MINE)


@pytest.mark.parametrize(
    "broken",
    [None, [1], [{"news": []}], [{"news": [["../x.service", "", True]], "olds": []}]],
)
def test_a_record_that_makes_no_sense_is_passed_over(place: Path, broken: object) -> None:
    writing.note({**about("p1"), "reshapings": broken}, "reshape")
    assert reshapes.found(time.time()) == []
