"""The first run: hosts typed or chosen, looked at, written down; the demo, or leaving."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot

from llamatop.app.first import Choice, FirstRunApp
from llamatop.app.screens.look import Look
from llamatop.errors import LlamatopError, Refused, UsageError
from llamatop.model.cluster import ClusterSnapshot
from tests.screens.clusters import empty, hostile, well
from tests.screens.fake import FakeSource
from tests.screens.stage import until

HOSTS = ["node1", "node2", "node3"]
OWN, HERE = Path("/home/ops/.config/llamatop/cluster.toml"), Path("cluster.toml")
TEXT = """\
# What llamatop found.
name = "p40-2x2"

# node1: 2 × Tesla P40
[[node]]
name = "node1"                    # what its workers' names begin with
ssh = "node1"                     # as you would type it after ssh; "local": this machine
"""


def partly() -> ClusterSnapshot:
    """One node read, one refusing, one still connecting."""
    base = well()
    refused = replace(
        base.nodes[1],
        reachable=False,
        fault="10.0.0.12:22 refuses the connection; start sshd there, or correct the port",
    )
    waiting = replace(base.nodes[1], name="node3", reachable=False)
    return replace(
        base,
        nodes=(base.nodes[0], refused, waiting),
        workers=base.workers[:2],
        gpus=base.gpus[:2],
        members=base.members[:2],
    )


class FakeLook(FakeSource):
    """A node is read whole unless the test names it."""

    reading: tuple[str, ...] = ()

    def settled(self, node: str) -> bool:
        return node not in self.reading


class FakeScout:
    """Finds what the test says; remembers who was looked at and what was written."""

    places = (OWN, HERE)

    def __init__(self, snapshot: ClusterSnapshot | None = None) -> None:
        self.source = FakeLook(empty())
        self.then = snapshot or well()
        self.looked: list[tuple[str, ...]] = []
        self.open = 0
        self.written: list[tuple[Path, str]] = []
        self.no_look: LlamatopError | None = None
        self.no_write: LlamatopError | None = None

    @asynccontextmanager
    async def looks(self, hosts: Sequence[str]) -> AsyncIterator[Look]:
        self.looked.append(tuple(hosts))
        if self.no_look is not None:
            raise self.no_look
        self.open += 1
        try:
            self.source.push(self.then)
            yield self.source
        finally:
            self.open -= 1

    def text(self, snapshot: ClusterSnapshot, place: Path) -> str:
        return TEXT

    def write(self, place: Path, text: str) -> None:
        if self.no_write is not None:
            raise self.no_write
        self.written.append((place, text))


class Stage(FirstRunApp):
    """The app with its scout in reach."""

    def __init__(self, snapshot: ClusterSnapshot | None = None) -> None:
        self.fake = FakeScout(snapshot)
        super().__init__(HOSTS, self.fake)

    def shown(self) -> str:
        strips = self.screen._compositor.render_strips()
        return "\n".join("".join(part.text for part in strip).rstrip() for strip in strips)


async def seeing(app: Stage, pilot: Pilot[Choice | None], text: str) -> None:
    await until(pilot, lambda: text in app.shown(), app.shown())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keys", "hosts"),
    [
        (["down", "down", "enter"], ("node2",)),
        (["down", "space", "space", "enter"], ("node1", "node2")),
        (["down", "space", "up", "space", "down", "enter"], ("node3",)),
        ([*"node1 new", "enter"], ("node1", "new")),
        ([*"new,new", "enter"], ("new",)),
        (["down", "down", "space", *"new", "enter"], ("new", "node2")),
    ],
)
async def test_only_what_was_chosen_is_looked_at(keys: list[str], hosts: tuple[str, ...]) -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press(*keys)
        await until(pilot, lambda: app.fake.open == 1, "a look")  # type: ignore[arg-type]
        assert app.fake.looked == [hosts]
        await pilot.press("escape")
        await until(pilot, lambda: app.fake.open == 0, "the look ended")  # type: ignore[arg-type]
        assert app.fake.looked == [hosts]


@pytest.mark.parametrize(
    ("keys", "choice"),
    [(["enter"], Choice(demo=True)), (["escape"], None), (["ctrl+c"], None)],
)
async def test_no_look_is_needed(keys: list[str], choice: Choice | None) -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press(*keys)
        await pilot.pause()
    assert app.return_value == choice
    assert app.fake.looked == []


@pytest.mark.parametrize("size", [(80, 24), (40, 15), (10, 3)])
async def test_looked_at_written_and_opened(size: tuple[int, int]) -> None:
    app = Stage()
    async with app.run_test(size=size) as pilot:
        await pilot.press("down", "enter")
        await seeing(app, pilot, "2" if size[0] < 40 else "2 of 2 read")
        await pilot.press("enter")
        await seeing(app, pilot, "write")
        assert app.fake.written == []
        await pilot.press("tab", "enter")
        await pilot.pause()
    assert app.return_value == Choice(file=HERE)
    assert app.fake.written == [(HERE, TEXT)]
    assert app.fake.open == 0


async def test_opened_without_a_file() -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("down", "space", "space", "enter")
        await seeing(app, pilot, "2 of 2 read")
        await pilot.press("o")
        await pilot.pause()
    assert app.return_value == Choice(("node1", "node2"))
    assert app.fake.written == []


async def test_what_could_not_be_read_cannot_be_written() -> None:
    app = Stage(empty())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("down", "enter")
        await seeing(app, pilot, "connecting …")
        await pilot.press("enter")
        await pilot.pause()
        assert "connecting …" in app.shown()
        app.fake.source.push(partly())
        await seeing(app, pilot, "1 of 3 read")
        assert "refuses the connection; start sshd there" in app.shown()
        await pilot.press("enter")
        await seeing(app, pilot, 'name = "p40-2x2"')


async def test_half_read_is_not_written() -> None:
    base = well()
    app = Stage(replace(base, workers=(), gpus=(), members=()))
    app.fake.source.reading = ("node1", "node2")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("down", "enter")
        await seeing(app, pilot, "node1  reading …")
        assert "no unit runs" not in app.shown()
        await pilot.press("enter")
        await pilot.pause()
        app.fake.source.reading = ()
        app.fake.source.push(base)
        await seeing(app, pilot, "3 workers")
        await pilot.press("enter")
        await seeing(app, pilot, "write and open")


async def test_what_is_no_host_is_said() -> None:
    app = Stage()
    app.fake.no_look = UsageError("'a;b' is no ssh host")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press(*"a;b", "enter")
        await seeing(app, pilot, "'a;b' is no ssh host")
        await pilot.press("o", "enter", "escape")
        await seeing(app, pilot, "Which machines")
    assert app.return_value is None


async def test_what_is_in_the_way_of_the_file_is_said() -> None:
    app = Stage()
    app.fake.no_write = Refused("cluster.toml is there already")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("down", "enter")
        await seeing(app, pilot, "2 of 2 read")
        await pilot.press("enter")
        await seeing(app, pilot, "write and open")
        await pilot.press("enter")
        await seeing(app, pilot, "is there already")
        app.fake.no_write = None
        await pilot.press("tab", "enter")
        await pilot.pause()
    assert app.return_value == Choice(file=HERE)


Compare = Callable[..., bool]
SIZES = {"80x24": (80, 24), "40x15": (40, 15)}
KEYS = {
    "question": ["down", "space"],
    "look": ["down", "enter"],
    "draft": ["down", "enter", "enter"],
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("screen", KEYS)
def test_a_screen(snap_compare: Compare, screen: str, size: str) -> None:
    app = Stage(partly())

    async def go(pilot: Pilot[Choice | None]) -> None:
        for key in KEYS[screen]:
            await pilot.press(key)
            if app.fake.looked and len(app.screen_stack) == 3:
                await seeing(app, pilot, "1 of 3 read")
        await asyncio.sleep(0)
        await pilot.pause()

    assert snap_compare(app, terminal_size=SIZES[size], run_before=go)


def test_hostile_strings(snap_compare: Compare) -> None:
    app = Stage(hostile())

    async def go(pilot: Pilot[Choice | None]) -> None:
        await pilot.press("down", "enter")
        await seeing(app, pilot, "2 of 2 read")

    assert snap_compare(app, terminal_size=(80, 24), run_before=go)
