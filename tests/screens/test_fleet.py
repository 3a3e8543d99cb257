"""A fleet on the screen: folds, plans over a node, the heat map, totals by model."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llamatop.app.screens.detail import DetailScreen
from tests.screens import clusters
from tests.screens.stage import Stage, until
from tests.screens.test_snapshots import SIZES, Compare, pressing

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("size", ["80x24", "200x60", "40x15"])
@pytest.mark.parametrize("nodes", [16, 64])
def test_main(snap_compare: Compare, nodes: int, size: str) -> None:
    app = Stage(clusters.ill_fleet(nodes, 8))
    # Worst first, a node unfolded, the cursor on one of its workers.
    act = pressing("o", "j", "j", "right", "j")
    assert snap_compare(app, terminal_size=SIZES[size], run_before=act)


def test_node_in_full(snap_compare: Compare) -> None:
    app = Stage(clusters.ill_fleet(16, 8))
    act = pressing("G", "enter")
    assert snap_compare(app, terminal_size=(80, 24), run_before=act)


async def test_nodes_fold_by_themselves_only_where_their_workers_do_not_fit() -> None:
    app = Stage(clusters.fleet(16, 4))
    async with app.run_test(size=(80, 24)) as pilot:
        assert app.table.count() == 16
        assert app.table.selected_name == "rack0-node00/*"
        await pilot.resize_terminal(120, 100)
        await until(pilot, lambda: app.table.count() == 64, "the workers")
        assert not app.table.by_node
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: app.table.count() == 16, "the nodes")
    async with (app := Stage()).run_test(size=(40, 15)):
        assert not app.table.by_node


async def test_the_cursor_stays_on_what_it_was_through_every_fold() -> None:
    app = Stage(clusters.fleet(16, 4))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("j", "right")
        assert (app.table.count(), app.table.selected_name) == (20, "rack0-node01/*")
        await pilot.press("j", "j", "o", "o")
        assert app.table.selected_name == "rack0-node01/gpu1"
        await pilot.press("minus")
        assert (app.table.count(), app.table.selected_name) == (16, "rack0-node01/*")
        await pilot.press("asterisk")
        assert (app.table.count(), app.table.selected_name) == (80, "rack0-node01/*")
        await pilot.press("j", "asterisk")
        assert (app.table.count(), app.table.selected_name) == (16, "rack0-node01/*")


async def test_a_small_cluster_can_be_folded_too_and_looks_as_before_unfolded() -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        before = app.shown()
        await pilot.press("left")
        assert app.table.selected_name == "node1/*"
        assert "+ node1" in app.shown()
        await pilot.press("right", "g")
        await until(pilot, lambda: app.shown() == before, "the table as it was")


async def test_a_plan_on_a_node_is_for_all_its_workers() -> None:
    app = Stage(clusters.fleet(16, 4))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("j", "d")
        await until(pilot, lambda: bool(app.hand.asked), "the plan")
        assert app.hand.asked[0][:2] == ("drain", ("rack0-node01/*",))
        await pilot.press("escape", "space", "space", "r")
        await until(pilot, lambda: len(app.hand.asked) > 1, "the second plan")
        assert app.hand.asked[1][:2] == ("restart", ("rack0-node01/*", "rack0-node02/*"))


@pytest.mark.parametrize("marked", [False, True])
async def test_a_plan_on_a_filtered_node_is_for_what_the_filter_leaves(marked: bool) -> None:
    app = Stage(clusters.fleet(16, 4))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("slash", *"node03 gpu2", "enter")
        assert [row.name for row in app.table._shown] == ["rack0-node03/gpu2"]
        await pilot.press("left")
        assert "rack0-node03 1 of 4" in app.shown()
        if marked:
            await pilot.press("space")
        await pilot.press("x")
        await until(pilot, lambda: bool(app.hand.asked), "the plan")
        assert app.hand.asked[0][:2] == ("stop", ("rack0-node03/gpu2",))


async def test_a_node_opens_with_its_cards_and_workers_and_takes_actions() -> None:
    app = Stage(clusters.fleet(16, 4))
    async with app.run_test(size=(100, 40)) as pilot:
        await pilot.press("j", "enter")
        await until(pilot, lambda: "rack0-node01/gpu3" in app.shown(), "the workers")
        assert isinstance(app.screen, DetailScreen)
        assert "of 64 cores" in app.shown()
        await pilot.press("d")
        await until(pilot, lambda: bool(app.hand.asked), "the plan")
        assert app.hand.asked[0][1] == ("rack0-node01/*",)


async def test_the_log_of_a_node_is_that_of_the_worker_to_look_at_first() -> None:
    app = Stage(clusters.ill_fleet(16, 8))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("slash", *"node:node07", "enter", "left", "l")
        await until(pilot, lambda: "rack0-node07/gpu0" in app.fake.reading, "its journal")


async def test_totals_by_model_come_and_go_by_a_key() -> None:
    app = Stage(clusters.fleet(16, 4))
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        shown = "gemma-3-27b-it" in app.shown()
        await pilot.press("m")
        await until(pilot, lambda: ("gemma-3-27b-it" in app.shown()) != shown, "the other")
        one = tuple(
            replace(w, sample=replace(w.sample, model="m.gguf")) for w in app.snapshot.workers
        )
        app.fake.push(replace(app.snapshot, tick=41, workers=one))
        await until(pilot, lambda: "gemma" not in app.shown(), "one model")
        await pilot.press("m")
        await until(pilot, lambda: "all workers serve one model: m" in app.shown(), "the words")


async def test_a_click_on_the_heat_map_puts_the_cursor_on_the_node() -> None:
    app = Stage(clusters.fleet(16, 8))
    async with app.run_test(size=(80, 24)) as pilot:
        lines = app.shown().splitlines()
        row = next(at for at, line in enumerate(lines) if "rack0-node04" in line)
        await pilot.click(offset=(lines[row].index("rack0-node04") + 15, row))
        await until(pilot, lambda: app.table.selected_name == "rack0-node04/*", "the node")


async def test_a_node_that_comes_takes_the_place_of_the_one_that_connected() -> None:
    whole = clusters.fleet(16, 8)
    app = Stage(clusters.ill_fleet(16, 8))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("j", "j")
        assert app.table.selected_name == "rack0-node02/*"
        assert "retry in 6s" in app.shown()
        app.fake.push(replace(whole, tick=41))
        await until(pilot, lambda: "retry" not in app.shown(), "all nodes")
        assert app.table.selected_name == "rack0-node02/*"


async def test_the_first_node_of_a_fleet_is_shown_where_all_will_be() -> None:
    whole = clusters.fleet(64, 8)
    waiting = [replace(one, reachable=False, age_seconds=None) for one in whole.nodes[1:]]
    name = whole.nodes[0].name
    first = replace(
        whole,
        tick=0,
        nodes=(whole.nodes[0], *waiting),
        workers=tuple(one for one in whole.workers if one.node == name),
        gpus=tuple(one for one in whole.gpus if one.node == name),
    )
    app = Stage(first)
    async with app.run_test(size=(200, 60)) as pilot:
        panel = app.main.gpus
        assert panel.heat is not None, "eight cards now, but 512 to come"
        assert "1/64 nodes" in app.shown()
        assert "63 connecting" in app.shown()
        lines = panel.size.height
        app.fake.push(replace(whole, tick=41))
        await until(pilot, lambda: len(app.snapshot.gpus) == 512, "the others")
        assert panel.heat is not None
        assert panel.size.height == lines, "what stands below stays where it is"
