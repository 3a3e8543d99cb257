"""The topology screen: sockets, links, workers over their cards, and what they yield."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot

from llamatop.app.render.board import Board, link_lines
from llamatop.app.render.boardcards import Scene, brackets, condense
from llamatop.app.render.palette import fallback
from llamatop.app.render.topology import Block
from llamatop.app.render.yields import busy, kinds, per_gpu
from llamatop.app.rows import cards_by_node
from llamatop.model.cluster import ClusterSnapshot, GpuView
from llamatop.model.gguf import ModelFile
from llamatop.model.observed import HostSample
from tests.screens import clusters
from tests.screens.stage import Stage, until
from tests.screens.test_snapshots import SIZES

Compare = Callable[..., bool]
PALETTE = fallback(plain=True)


async def opened(pilot: Pilot[None]) -> None:
    """Press t and wait for the screen."""
    app = pilot.app
    assert isinstance(app, Stage)
    await pilot.press("t")
    await until(pilot, lambda: "now" in app.shown(), "the axis of time")


@pytest.mark.parametrize("size", ["80x24", "200x60", "40x15"])
def test_topology(snap_compare: Compare, size: str) -> None:
    app = Stage(clusters.joined())
    assert snap_compare(app, terminal_size=SIZES[size], run_before=opened)


@pytest.mark.parametrize("size", ["80x24", "40x15"])
def test_topology_of_cards_that_tell_little(snap_compare: Compare, size: str) -> None:
    app = Stage(clusters.ill())
    assert snap_compare(app, terminal_size=SIZES[size], run_before=opened)


async def test_it_opens_on_the_node_of_the_selected_worker_and_closes() -> None:
    app = Stage(clusters.joined())
    async with app.run_test(size=(80, 20)) as pilot:
        await pilot.press("G")
        await opened(pilot)
        first = app.shown().splitlines()[1]
        assert first.startswith("── node2 · 2 × Tesla P40")
        await pilot.press("N")
        await pilot.pause()
        assert app.shown().splitlines()[1].startswith("── node1 · 8 × Tesla P40")
        await pilot.press("t")
        assert app.screen is app.main


async def test_a_split_stands_beside_replicas_and_moves_with_the_snapshots() -> None:
    app = Stage(clusters.well())
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(pilot)
        lines = app.shown().splitlines()
        (split,) = [line for line in lines if line.startswith(" big")]
        assert "layer-split" in split
        shown = [gpu.sample.utilization_percent for gpu in app.snapshot.gpus[2:]]
        assert f"{shown[0]:.0f} % | {shown[1]:.0f} %" in split
        gpus = tuple(
            replace(gpu, sample=replace(gpu.sample, utilization_percent=12.0))
            for gpu in app.snapshot.gpus
        )
        app.fake.push(replace(app.snapshot, gpus=gpus))
        await until(pilot, lambda: "12 % | 12 %" in app.shown(), "the next snapshot")


def block(snapshot: ClusterSnapshot, name: str) -> Block:
    view = snapshot.node(name)
    cards = cards_by_node(snapshot).get(name, ())
    workers = tuple(worker for worker in snapshot.workers if worker.node == name)
    return Block(view, Board(cards, view.snapshot.host), workers)


def scene(**changes: object) -> Scene:
    drawn = Scene(lambda node, uuid: [50.0] * 100, PALETTE, tick=40, most=60.0)
    return replace(drawn, **changes)  # type: ignore[arg-type]  # names come from the tests


@pytest.mark.parametrize("width", [20, 40, 60, 79, 80, 120, 139, 140, 200])
@pytest.mark.parametrize("cards", [0, 1, 2, 3, 8, 16])
def test_any_number_of_cards_at_any_width(width: int, cards: int) -> None:
    gpus = tuple(
        clusters.gpu(
            replace(
                clusters.card("n", index),
                numa_node=index * 2 // max(cards, 1),
                links={f"GPU-n-{other}": "NV12" for other in range(index + 1, cards)},
            ),
            "n",
            "n/all",
            mark="layer-split",
        )
        for index in range(cards)
    )
    worker = clusters.worker("n", "all", tuple(range(cards)))
    one = Block(clusters.node("n"), Board(gpus, HostSample()), (worker,))
    for rows in (1, 2, 3):
        lines = one.lines(width, scene(rows=rows))
        assert len(lines) == one.height(width, rows)
        assert max(line.cell_len for line in lines) <= max(width, 40)


@pytest.mark.parametrize("make", [clusters.well, clusters.ill, clusters.hostile, clusters.joined])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_heights_are_true(make: Callable[[], ClusterSnapshot], width: int) -> None:
    snapshot = make()
    for view in snapshot.nodes:
        one = block(snapshot, view.name)
        lines = one.lines(width, scene())
        assert len(lines) == one.height(width, 1)
        assert max(line.cell_len for line in lines) <= width


def test_sockets_switches_and_the_matrix() -> None:
    one = block(clusters.joined(), "node1")
    drawn = "\n".join(line.plain for line in one.lines(120, scene()))
    assert "╭ NUMA 0 · cpu 0-15" in drawn
    assert "╭ NUMA 1 · cpu 16-31" in drawn
    assert " ├─┬ GPU0  PCIe 1×16/3×16" in drawn
    assert " │ ╰ GPU1  PCIe 3×16 " in drawn
    assert " ╰─┬ GPU2 " in drawn
    assert "GPU0     ·  PIX NODE NODE  SYS  SYS  SYS  SYS" in drawn
    assert "PIX one PCIe switch · NODE within a socket · SYS across sockets" in drawn
    assert "✗ GPU is lost" in drawn


def test_below_a_split_stands_whether_one_card_would_do() -> None:
    snapshot = clusters.joined()
    split = snapshot.workers[-1]
    launch = replace(split.sample.launch, model="/m.gguf")
    view = snapshot.node("node2")
    files = {"/m.gguf": ModelFile("/m.gguf")}
    one = Block(
        replace(view, snapshot=replace(view.snapshot, models=files)),
        block(snapshot, "node2").board,
        (replace(split, sample=replace(split.sample, launch=launch)),),
    )
    lines = [line.plain.rstrip() for line in one.lines(80, scene())]
    assert len(lines) == one.height(80, 1)
    # A header that says nothing: what is not known is not guessed.
    assert lines[-2:] == [" ╰ fit –", ""]
    assert not any("╰ fit" in line.plain for line in block(snapshot, "node2").lines(80, scene()))


def test_two_cards_and_alike_links_need_one_line() -> None:
    board = block(clusters.joined(), "node2").board
    (line,) = link_lines(board, 80, PALETTE)
    assert line.plain == " GPU0 ──NV4── GPU1  NVLink"
    assert link_lines(block(clusters.well(), "node2").board, 80, PALETTE) == []


def test_the_bracket_of_a_worker_spans_its_cards() -> None:
    cards = [clusters.gpu(clusters.card("n", index), "n") for index in range(4)]
    one = clusters.worker("n", "a", (0, 2))
    assert [mark for mark, _ in brackets(cards, [one])] == ["╮", "│", "╯", " "]
    other = clusters.worker("n", "b", (1, 3))
    assert [mark for mark, _ in brackets(cards, [one, other])] == ["╮", "·", "╯", "·"]


def test_values_stay_in_their_cell_as_time_goes_on() -> None:
    values: list[float | None] = [float(number) for number in range(10)]
    # Ticks 8 and 9 fill the newest cell so far; 4 to 7 and 0 to 3 are whole.
    assert condense(values, 5, 4, 9) == [1.5, 5.5, 8.5]
    assert condense([*values, 10.0], 5, 4, 10) == [1.5, 5.5, 9.0]
    assert condense([None, None, 3.0], 5, 2, 2) == [None, 3.0]
    assert condense(values, 0, 4, 9) == []


def test_what_is_not_known_is_no_number() -> None:
    worker = clusters.worker("n", "a", (0, 1), generation_tokens_per_second=None)
    assert per_gpu(worker) is None
    assert busy(worker, {}) == "–"
    sample = replace(clusters.card("n", 0), utilization_percent=None)
    cards: dict[int | None, GpuView] = {0: clusters.gpu(sample, "n")}
    assert busy(worker, cards) == "–"
    assert per_gpu(clusters.worker("n", "a", (), generation_tokens_per_second=9.0)) is None


def test_many_cards_of_a_worker_are_a_range() -> None:
    worker = clusters.worker("n", "a", tuple(range(8)))
    cards: dict[int | None, GpuView] = {
        index: clusters.gpu(
            replace(clusters.card("n", index), utilization_percent=40.0 + index), "n"
        )
        for index in range(8)
    }
    assert busy(worker, cards) == "8 × 40–47 %"
    by_index = {("n", index or 0): card for index, card in cards.items()}
    assert kinds([worker], by_index) == "layer-split 44 %"
