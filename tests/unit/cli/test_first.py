"""What the first-run screen is given: places, a look that can refuse a host, a careful writing."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamatop import config
from llamatop.cli.first import Scout
from llamatop.cli.parser import parse
from llamatop.errors import ConfigError, Refused, UsageError
from llamatop.model.declared import Node
from tests.screens.clusters import well


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.mark.parametrize("place", [0, 1])
def test_what_is_written_is_found_without_being_named(home: Path, place: int) -> None:
    scout = Scout(parse([]))
    assert config.find() is None
    where = scout.places[place]
    scout.write(where, scout.text(well(), where))
    found = config.find()
    assert found is not None
    assert found.samefile(where)
    assert config.load(found).nodes == (Node("node1", ssh="node1"), Node("node2", ssh="node2"))


def test_a_file_that_came_meanwhile_stays(home: Path) -> None:
    scout = Scout(parse([]))
    Path("cluster.toml").write_text("mine")
    with pytest.raises(Refused, match="there already"):
        scout.write(Path("cluster.toml"), "new")
    assert Path("cluster.toml").read_text() == "mine"


def test_a_home_that_takes_no_file_is_said(home: Path) -> None:
    (home / "config").write_text("in the way")
    scout = Scout(parse([]))
    with pytest.raises(UsageError, match="cannot be made"):
        scout.write(scout.places[0], "new")


@pytest.mark.usefixtures("home")
async def test_what_is_no_host_is_not_looked_at() -> None:
    with pytest.raises(ConfigError, match="begins with"):
        async with Scout(parse([])).looks(["node1", "-oProxyCommand=x@a;b"]):
            pytest.fail("it was opened")
