"""The first run: typed hosts, chosen hosts, the demo, or leaving."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamatop.app.first import Choice, FirstRunApp
from llamatop.cli.dashboard import ssh_hosts

HOSTS = ["alpha", "beta", "gamma"]


@pytest.mark.parametrize(
    ("keys", "choice"),
    [
        (["enter"], Choice(demo=True)),
        (["down", "down", "enter"], Choice(("beta",))),
        (["down", "space", "space", "enter"], Choice(("alpha", "beta"))),
        ([*"node1 node2", "enter"], Choice(("node1", "node2"))),
        (["escape"], None),
        (["ctrl+c"], None),
    ],
)
async def test_the_choice(keys: list[str], choice: Choice | None) -> None:
    app = FirstRunApp(HOSTS)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press(*keys)
        await pilot.pause()
    assert app.return_value == choice


@pytest.mark.parametrize("size", [(10, 3), (40, 15)])
async def test_a_small_terminal_does_not_break_it(size: tuple[int, int]) -> None:
    app = FirstRunApp(HOSTS)
    async with app.run_test(size=size) as pilot:
        await pilot.press("down", "down", "enter")
        await pilot.pause()
    assert app.return_value == Choice(("beta",))


def test_hosts_of_an_ssh_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("Host alpha beta *.example\n  HostName 10.0.0.1\nhost=gamma\nHost alpha !x\n")
    assert ssh_hosts(path) == ["alpha", "beta", "gamma"]


def test_no_ssh_configuration_is_no_hosts(tmp_path: Path) -> None:
    assert ssh_hosts(tmp_path / "missing") == []


def test_the_first_screen(snap_compare: object) -> None:
    assert snap_compare(FirstRunApp(HOSTS), terminal_size=(80, 24), press=["down", "space"])  # type: ignore[operator]
