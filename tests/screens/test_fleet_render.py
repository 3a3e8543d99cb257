"""Nodes, folds, the filter's words, heat map and totals by model, without a screen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llamatop.app.folds import FEW_ROWS, Folds, too_many, tree
from llamatop.app.needle import select, select_empty
from llamatop.app.nodes import NodeRow, arrange_nodes, by_node, filtered, find
from llamatop.app.render import alerts, columns, heat, models, node, nodes, workers
from llamatop.app.render.palette import fallback
from llamatop.app.rows import SORTS, Row, rows
from llamatop.collect.health import totals
from llamatop.model.cluster import ClusterSnapshot
from tests.screens import clusters

PALETTE = fallback(plain=True)
ILL = clusters.ill_fleet(16, 8)


def lines_of(snapshot: ClusterSnapshot) -> list[NodeRow]:
    return by_node(snapshot, rows(snapshot))


def named(snapshot: ClusterSnapshot, name: str) -> NodeRow:
    found = find(snapshot, f"{name}/*")
    assert isinstance(found, NodeRow)
    return found


@pytest.mark.parametrize(
    ("name", "word", "mark"),
    [
        ("rack0-node00", "ok", "✓"),
        ("rack0-node01", "no answer", "✗"),
        ("rack0-node02", "no answer", "✗"),
        ("rack0-node03", "connecting", "◌"),
        ("rack0-node05", "card fault", "✗"),
        ("rack0-node07", "crash loop", "✗"),
    ],
)
def test_a_node_tells_the_worst_of_what_is_on_it(name: str, word: str, mark: str) -> None:
    state = named(ILL, name).state
    assert (state.word, state.mark) == (word, mark)


def test_several_faults_of_a_node_are_counted() -> None:
    base = clusters.ill_fleet(16, 8)
    crashed = next(worker for worker in base.workers if worker.node == "rack0-node07")
    broken = [
        replace(worker, unit=crashed.unit) if worker.node == "rack0-node07" else worker
        for worker in base.workers
    ]
    assert named(replace(base, workers=tuple(broken)), "rack0-node07").state.word == "8 faults"


def test_a_node_sums_its_own_workers_and_means_them_all() -> None:
    line = named(ILL, "rack0-node06")
    mine = [worker for worker in ILL.workers if worker.node == "rack0-node06"]
    assert line.totals == totals(mine)
    assert (line.workers, len(line.cards), line.name) == (8, 8, "rack0-node06/*")
    assert find(ILL, "rack0-node06/*") == line


@pytest.mark.parametrize("sort", SORTS)
def test_sorting_nodes_loses_none(sort: str) -> None:
    listed = lines_of(ILL)
    assert {line.node for line in arrange_nodes(listed, sort)} == {line.node for line in listed}


def test_the_worst_nodes_come_first_and_what_connects_before_what_is_well() -> None:
    order = [line.node for line in arrange_nodes(lines_of(ILL), "worst first")]
    assert set(order[:4]) == {f"rack0-node0{number}" for number in (1, 2, 5, 7)}
    assert order[4] == "rack0-node03"


def test_the_busiest_node_comes_first_and_the_unknown_last() -> None:
    order = [line.node for line in arrange_nodes(lines_of(ILL), "generation")]
    rates = [named(ILL, name).totals.generation_tokens_per_second for name in order]
    assert rates[-2:] == [None, None]
    known = [rate for rate in rates if rate is not None]
    assert known == sorted(known, reverse=True)


def test_folds_remember_what_the_person_made_different() -> None:
    folds = Folds()
    folds.suggest(True)
    assert folds.folded("a")
    assert folds.folded("b")
    folds.fold("a", False)
    assert not folds.folded("a")
    folds.suggest(False)
    assert folds.folded("b"), "a suggestion no longer counts"
    folds.fold_all(False)
    assert not folds.any(["a", "b"])


def test_a_folded_node_hides_its_workers_and_no_other() -> None:
    folds = Folds()
    listed = lines_of(clusters.fleet(3, 2))
    folds.fold("rack0-node01", True)
    shown = [line.name for line in tree(listed, folds, "node")]
    assert shown == [
        "rack0-node00/*",
        "rack0-node00/gpu0",
        "rack0-node00/gpu1",
        "rack0-node01/*",
        "rack0-node02/*",
        "rack0-node02/gpu0",
        "rack0-node02/gpu1",
    ]


def test_few_rows_are_never_folded_and_one_node_neither() -> None:
    assert not too_many(2, FEW_ROWS, 5)
    assert too_many(2, FEW_ROWS + 1, 5)
    assert not too_many(2, 40, 40)
    assert not too_many(1, 512, 5)


@pytest.mark.parametrize(
    ("needle", "count"),
    [
        ("state:fault", 8 + 1 + 1),
        ("state:stale", 8),
        ("state:lost", 1),
        ("state:hot", 1),
        ("state:crash", 1),
        ("state:queued", 1),
        ("node:rack1", 64),
        ("model:gemma node:node06", 8),
        ("engine:llama", 112),
        ("engine:vllm", 0),
        ("node05 gpu3", 1),
        ("state:", 112),
        ("unknown:word", 0),
    ],
)
def test_the_filter_s_words(needle: str, count: int) -> None:
    assert len(select(rows(ILL), needle)) == count


def test_busy_and_idle_are_told_by_the_slots() -> None:
    listed = rows(clusters.fleet(16, 8))
    busy, idle = select(listed, "state:busy"), select(listed, "state:idle")
    assert all(row.worker and row.worker.slots_busy for row in busy)
    assert all(row.worker and row.worker.slots_busy == 0 for row in idle)
    assert len(busy) + len(idle) == len(listed)


def test_letters_may_be_left_out_only_where_no_row_has_the_word() -> None:
    listed = rows(clusters.fleet(16, 8))
    assert {row.node for row in select(listed, "node03")} == {"rack0-node03"}
    assert [row.name for row in select(listed, "nd03g1")] == ["rack0-node03/gpu1"]


def test_a_node_with_nothing_on_it_is_found_by_its_state() -> None:
    found = select_empty(lines_of(ILL), "state:fault")
    assert [line.node for line in found] == ["rack0-node02"]
    assert [line.node for line in select_empty(lines_of(ILL), "connecting")] == ["rack0-node03"]


def test_a_filtered_node_keeps_only_what_was_found() -> None:
    listed = select(rows(ILL), "state:crash")
    (line,) = filtered(lines_of(ILL), listed)
    assert (line.node, len(line.listed), len(line.rows)) == ("rack0-node07", 1, 8)


def test_every_card_has_a_cell_that_tells_without_colour() -> None:
    cards = named(ILL, "rack0-node05").cards + named(ILL, "rack0-node06").cards
    drawn = heat.cells(cards, False, PALETTE, 16).plain
    assert (drawn[0], drawn[9]) == (heat.LOST, heat.HOT)
    assert set(drawn) - {heat.LOST, heat.HOT} <= set(heat.LEVELS)
    assert heat.cells(cards[8:], True, PALETTE, 8).plain == heat.OLD * 8
    idle = replace(cards[3], sample=replace(cards[3].sample, utilization_percent=0.0))
    unknown = replace(cards[3], sample=replace(cards[3].sample, utilization_percent=None))
    full = replace(cards[3], sample=replace(cards[3].sample, utilization_percent=100.0))
    assert heat.cells((idle, unknown, full), False, PALETTE, 3).plain == "·–█"


@given(st.integers(24, 220), st.integers(1, 70), st.integers(1, 20), st.integers(1, 30))
def test_the_heat_map_shows_every_node_once_within_its_width(
    width: int, count: int, cards: int, most: int
) -> None:
    listed = [
        NodeRow(f"node{place}", clusters.node(f"node{place}"), cards=FEW[:cards])
        for place in range(count)
    ]
    way = heat.layout(listed, width, most)
    drawn = [heat.line(listed, at, way, PALETTE, None) for at in range(way.lines(count))]
    assert all(line.cell_len <= width for line in drawn)
    marks = sum(line.plain.count("█") for line in drawn)
    assert marks == count * min(cards, width - 2)


FEW = tuple(
    clusters.gpu(replace(clusters.card("n", at), utilization_percent=100.0), "n")
    for at in range(20)
)


def test_a_click_on_the_heat_map_means_the_node_drawn_there() -> None:
    listed = lines_of(clusters.fleet(64, 8))
    for width, most in ((200, 30), (80, 22), (80, 10), (80, 1)):
        way = heat.layout(listed, width, most)
        for place, selected in enumerate(listed):
            line = heat.line(listed, place // way.across, way, PALETTE, selected.node).plain
            at = line.index("▸")
            assert heat.node_at(listed, place // way.across, way, at) is selected


@given(st.integers(26, 220))
def test_a_node_s_line_is_exactly_as_wide_as_the_table(width: int) -> None:
    listed = [named(ILL, f"rack0-node0{number}") for number in (0, 1, 2, 5)]
    kept = columns.node_columns(listed, width)
    for line in listed:
        drawn = nodes.line(line, kept, width, PALETTE, folded=True)
        assert drawn.cell_len >= width
        if columns.total(kept, width, columns.NODE_GUTTER) <= width:
            assert drawn.cell_len == width
        for row in line.rows[:2]:
            below = workers.line(row, kept, width, PALETTE, ILL.taken_at, below_node=True)
            if columns.total(kept, width, columns.NODE_GUTTER) <= width:
                assert below.cell_len == width


def test_a_node_that_does_not_answer_says_why_and_when_it_is_tried_next() -> None:
    kept = columns.node_columns(lines_of(ILL), 100)
    drawn = nodes.line(named(ILL, "rack0-node02"), kept, 100, PALETTE, folded=True).plain
    assert "retry in 6s · connection refused" in drawn
    kept = columns.node_columns(lines_of(ILL), 40)
    assert (
        "retry 6s" in nodes.line(named(ILL, "rack0-node02"), kept, 40, PALETTE, folded=True).plain
    )
    (alert,) = [one for one in alerts.alerts(ILL) if one.where == "rack0-node02"]
    assert alert.text + alert.next == "connection refused; is sshd running?; next try in 6s"
    (waits,) = [one for one in alerts.alerts(ILL) if one.where == "rack0-node03"]
    assert waits.severity == "warning"


def test_alerts_that_say_the_same_become_one_and_all_are_counted() -> None:
    same = [alerts.Alert("error", f"node{place}", "no route to host") for place in range(9)]
    other = alerts.Alert("error", "node9", "connection refused")
    (first, last) = alerts.grouped([*same, other])
    assert (first.where, first.count, last) == ("node0 +8", 9, other)
    drawn = alerts.lines([other, other, first], 80, 2, PALETTE)
    assert drawn[-1].plain.strip() == "and 10 more"


def test_totals_by_model_add_up_to_those_of_the_cluster() -> None:
    listed = models.by_model(ILL.workers)
    assert [row.workers for row in listed] == sorted([row.workers for row in listed], reverse=True)
    assert sum(row.workers for row in listed) == len(ILL.workers)
    assert sum(row.totals.slots_busy or 0 for row in listed) == ILL.totals.slots_busy
    assert sum(row.totals.requests_deferred or 0 for row in listed) == 17


@given(st.integers(26, 220))
def test_a_model_s_line_fits_into_its_width(width: int) -> None:
    listed = models.by_model(ILL.workers)
    parts = models.layout(listed, width)
    titles = models.titles(parts, width, PALETTE).cell_len
    for row in listed:
        assert models.line(row, parts, width, PALETTE).cell_len == titles <= width


def test_a_node_in_full_shows_its_machine_its_cards_and_its_workers() -> None:
    drawn = node.lines(named(ILL, "rack0-node05"), None, 100, PALETTE, ILL.taken_at)
    text = "\n".join(line.plain for line in drawn)
    assert "of 64 cores" in text
    assert "95/512G" in text
    assert "GPU is lost" in text
    assert sum("rack0-node05/gpu" in line for line in text.splitlines()) == 8


def test_a_worker_below_its_node_shows_the_figures_of_its_own_card() -> None:
    row = next(row for row in rows(ILL) if row.name == "rack0-node06/gpu1")
    assert isinstance(row, Row)
    kept = columns.node_columns(lines_of(ILL), 100)
    drawn = workers.line(row, kept, 100, PALETTE, ILL.taken_at, below_node=True).plain
    assert "91°!" in drawn
    assert "rack0" not in drawn
