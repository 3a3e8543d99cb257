"""The pure half of the screen: numbers, bars, states, columns, layouts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len

from llamatop.app.needle import select
from llamatop.app.render import (
    alerts,
    bars,
    columns,
    detail,
    gpus,
    layout,
    plan,
    state,
    totals,
    workers,
)
from llamatop.app.render.palette import ROLES, attributes, fallback
from llamatop.app.render.words import fit, fit_middle, fit_name, wrap
from llamatop.app.rows import SORTS, Row, arrange, rows
from llamatop.model import figures
from llamatop.model.cluster import WorkerView
from llamatop.model.observed import UnitState, WorkerSample
from llamatop.model.text import plain
from tests.screens import clusters
from tests.screens.fake import drain_plan

PALETTE = fallback()
NUMBERS = st.none() | st.floats(min_value=-1e9, max_value=1e11)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0, "0"),
        (0.04, "0.0"),
        (7.4, "7.4"),
        (54.1, "54.1"),
        (99.96, "100"),
        (214.2, "214"),
        (999.4, "999"),
        (999.6, "1.0k"),
        (1900.5, "1.9k"),
        (99_960, "100k"),
        (999_600, "1.0M"),
        (1.2e6, "1.2M"),
        (3e8, "300M"),
        (2e9, "2.0G"),
    ],
)
def test_number(value: float | None, shown: str) -> None:
    assert figures.number(value) == shown


@given(st.floats(min_value=0, max_value=9e11))
def test_a_number_never_takes_more_than_six_cells(value: float) -> None:
    assert len(figures.number(value)) <= 6


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "–"),
        (-3, "0s"),
        (9.9, "9s"),
        (245, "4m05s"),
        (7620, "2h07m"),
        (273_600, "3d04h"),
        (412 * 86400, "412d"),
    ],
)
def test_duration(seconds: float | None, shown: str) -> None:
    assert figures.duration(seconds) == shown


def test_figures_never_draw_the_unknown_as_nothing() -> None:
    alone = (figures.number, figures.count, figures.percent, figures.degrees, figures.duration)
    assert [figure(None) for figure in alone] == ["–"] * 5
    assert (figures.share(None, 2), figures.gibibytes(2**30, None)) == ("–/2", "1.0/–")
    assert (figures.watts(None, 250.0), figures.gibibytes(None, None)) == ("–", "–")


@given(st.text(), st.integers(0, 40), st.booleans())
def test_fit_is_exactly_as_wide_as_asked_and_safe(text: str, width: int, right: bool) -> None:
    fitted = fit(text, width, right)
    assert cell_len(fitted) == width
    assert "\x1b" not in fitted
    assert "\n" not in fitted


@given(st.text(), st.integers(5, 40))
def test_fit_middle_is_exactly_as_wide_as_asked(text: str, width: int) -> None:
    assert cell_len(fit_middle(text, width)) == width


@given(st.text(), st.text(), st.integers(0, 40))
def test_fit_name_is_exactly_as_wide_as_asked(node: str, unit: str, width: int) -> None:
    assert cell_len(fit_name(f"{node}/{unit}", width)) == width


def test_fit_name_keeps_the_node_and_the_end() -> None:
    assert fit_name("node1/llama-tunnel-node2", 20) == "node1/…-tunnel-node2"
    assert fit_name("a-long-node-name/gpu0", 12) == "a-lon…e/gpu0"


def test_fit_middle_keeps_both_ends() -> None:
    assert fit_middle("llama-3.3-70b-instruct-q4_k_m.gguf", 15) == "llama-3…_m.gguf"


@pytest.mark.parametrize(
    ("percent", "filled"),
    [(None, ""), (0, ""), (1, "▏"), (50, "█████"), (51, "█████▏"), (100, "█" * 10)],
)
def test_bar(percent: float | None, filled: str) -> None:
    assert bars.bar(percent, 10, PALETTE).plain == filled.ljust(10)


def test_a_bar_without_colours_shows_its_end() -> None:
    assert bars.bar(50, 10, fallback(plain=True)).plain == "█████·····"


@given(st.lists(NUMBERS, max_size=200), st.integers(0, 80))
def test_a_sparkline_is_as_wide_as_asked(values: list[float | None], width: int) -> None:
    assert len(bars.sparkline(values, width)) == width


def test_a_sparkline_tells_nothing_from_a_trickle_from_unknown() -> None:
    assert bars.sparkline([0, 0.1, None, 50, 100], 6, 100) == "  ▁·▄█"


def test_a_chart_fills_from_below() -> None:
    assert bars.chart([0, 5, 10], 4, 2, 10) == ["   █", "  ██"]


@pytest.mark.parametrize(
    ("largest", "ceiling"), [(0, 1), (0.4, 1), (1, 1), (3, 5), (54, 100), (180, 200), (201, 500)]
)
def test_ceiling(largest: float, ceiling: float) -> None:
    assert bars.ceiling([None, largest]) == ceiling


def test_the_axis_ends_every_label_below_its_moment() -> None:
    line = detail.axis(64, 1.0, PALETTE).plain
    assert line.endswith("now")
    now = line.index("now") + 2
    for ago, label in ((15, "-15s"), (30, "-30s"), (45, "-45s")):
        assert line[now - ago - len(label) + 1 : now - ago + 1] == label
    assert "-1m30s" in detail.axis(120, 1.0, PALETTE).plain
    assert "-1h" not in detail.axis(120, 60.0, PALETTE).plain
    assert "-30m" in detail.axis(120, 60.0, PALETTE).plain


@given(st.integers(6, 300), st.floats(0.1, 3600))
def test_the_axis_is_as_wide_as_its_chart(width: int, interval: float) -> None:
    assert len(detail.axis(width, interval, PALETTE).plain) == width - 1


def test_slots_show_what_each_does() -> None:
    each = [clusters.slot(0, True), clusters.slot(1, True, prompt=True), clusters.slot(2, False)]
    assert bars.slots(2, 3, each, 9, PALETTE).plain == "●◐○ 2/3  "


def test_slots_without_room_for_marks_are_numbers() -> None:
    assert bars.slots(12, 64, None, 8, PALETTE).plain == "12/64   "


def test_unknown_slots_are_not_zero() -> None:
    assert bars.slots(None, None, None, 8, PALETTE).plain == "–/–     "


@given(st.integers(0, 70), st.integers(0, 70), st.integers(3, 30))
def test_slots_are_as_wide_as_asked(busy: int, total: int, width: int) -> None:
    assert bars.slots(busy, total, None, width, PALETTE).cell_len == width


STATES = {
    "failed": ({"active_state": "failed"}, {}, "failed", 0),
    "crash loop": (
        {"active_state": "activating", "sub_state": "auto-restart"},
        {},
        "crash loop",
        0,
    ),
    "starting": ({"active_state": "activating"}, {}, "starting", 1),
    "stopped though in": ({"active_state": "inactive"}, {}, "stopped", 0),
    "stopped and drained": ({"active_state": "inactive"}, {"membership": "down"}, "stopped", 3),
    "running": ({}, {}, "ok", 4),
    "missing": ({"load_state": "not-found"}, {}, "no unit", 0),
}


@pytest.mark.parametrize("name", STATES)
def test_state_of_a_worker(name: str) -> None:
    unit, worker, word, rank = STATES[name]
    view = clusters.worker("node1", "gpu0", (0,))
    view = replace(view, unit=replace(view.unit, **unit), **worker)  # type: ignore[arg-type]
    found = state.worker_state(view)
    assert (found.word, found.rank) == (word, rank)


@pytest.mark.parametrize(
    ("health", "word"),
    [
        ("ok", "ok"),
        ("busy", "busy"),
        ("loading", "loading"),
        ("unreachable", "no answer"),
        ("unauthorized", "no key"),
        ("error", "error"),
        (None, "–"),
    ],
)
def test_health_of_a_running_worker(health: str | None, word: str) -> None:
    view = clusters.worker("node1", "gpu0", (0,))
    view = replace(view, sample=replace(view.sample, health=health))  # type: ignore[arg-type]
    assert state.worker_state(view).word == word


def test_a_sleeping_worker_is_asleep_and_not_a_fault() -> None:
    view = clusters.worker("node1", "gpu0", (0,))
    view = replace(view, sample=replace(view.sample, sleeping=True))
    assert state.worker_state(view) == state.ASLEEP


def test_every_mark_tells_its_state_without_colour() -> None:
    states = [*state._UNIT.values(), *state._HEALTH.values(), state.ASLEEP]
    faults = {each.mark for each in states if each.rank == state.FAULT}
    assert faults == {"✗"}
    assert "✗" not in {each.mark for each in states if each.rank != state.FAULT}


def test_columns_leave_in_their_order() -> None:
    listed = rows(clusters.well())
    seen: list[str] = []
    kept = {column.key for column in columns.columns(listed, 200)}
    for width in range(200, 20, -1):
        left = {column.key for column in columns.columns(listed, width)}
        gone = kept - left
        seen += sorted(gone, key=lambda key: -columns._LEAVES[key])
        kept = left
    assert seen[:4] == ["topology", "restarts", "up", "model"]
    assert {"worker", "state"} <= kept


@given(st.integers(26, 220))
def test_a_row_is_exactly_as_wide_as_the_table(width: int) -> None:
    snapshot = clusters.hostile()
    listed = rows(snapshot)
    kept = columns.columns(listed, width)
    for row in listed:
        text = workers.line(row, kept, width, PALETTE, snapshot.taken_at)
        if columns.total(kept, width) <= width:
            assert text.cell_len == width


def test_faults_are_told_in_full_where_there_is_little_else() -> None:
    empty = layout.share(80, 24, gpus=0, workers=1, alerts=9, events=3)
    assert empty.alerts == 9
    full = layout.share(80, 24, gpus=4, workers=7, alerts=9, events=3)
    assert full.alerts == 3


def test_what_a_unit_is_is_said_whole_or_not_at_all() -> None:
    unit = UnitState("nginx.service", description="A web server")
    row = Row("node1/nginx.service", "node1", unit, state.bare_unit_state(unit))
    for width, words in ((8, ""), (12, "A web server")):
        column = columns.Column("model", "model", width)
        drawn = workers._CELLS["model"](row, column, PALETTE, clusters.well().taken_at)
        assert drawn.plain.strip() == words
        assert drawn.cell_len == width


@given(st.integers(24, 220))
def test_a_card_fits_into_its_width(width: int) -> None:
    for snapshot in (clusters.well(), clusters.ill(), clusters.hostile()):
        parts = gpus.layout(snapshot.gpus, width)
        for place in range(len(snapshot.gpus)):
            drawn = gpus.line(snapshot.gpus, place, parts, [50.0] * 200, PALETTE)
            assert drawn.cell_len <= width


def test_a_split_worker_is_bracketed_beside_its_figures() -> None:
    snapshot = clusters.well()
    parts = gpus.layout(snapshot.gpus, 100)
    lines = [gpus.line(snapshot.gpus, place, parts, [], PALETTE).plain for place in range(4)]
    assert "% ╮ big layer-split" in lines[2]
    assert "% ╯ big layer-split" in lines[3]
    assert not any(mark in lines[0] + lines[1] for mark in "╮┤╯")


@given(
    st.integers(1, 300),
    st.integers(1, 120),
    st.integers(0, 600),
    st.integers(0, 600),
    st.integers(0, 50),
    st.integers(0, 200),
    st.integers(0, 2),
)
def test_the_layout_never_hands_out_more_than_there_is(
    width: int, height: int, cards: int, listed: int, faults: int, happened: int, below: int
) -> None:
    parts = layout.share(
        width, height, gpus=cards, workers=listed, alerts=faults, events=happened, below=below
    )
    used = parts.totals + parts.alerts + parts.keys + parts.chart + parts.gpus + parts.workers
    used += parts.events + parts.detail_height
    if parts.tiny:
        assert used == height
    else:
        assert used + below == height
        assert parts.workers >= 3
        assert parts.detail_width < width


def test_alerts_name_the_thing_and_the_mend_worst_first() -> None:
    found = alerts.alerts(clusters.ill())
    assert [alert.where for alert in found] == [
        "node2",
        "node1/gpu1",
        "node3/gpu1",
        "node3 gpu 1",
        "node1 gpu 1",
        "node1 nginx",
    ]
    assert all(";" in alert.text for alert in found)


def test_what_nginx_refuses_is_told_once_and_no_reload_is_advised() -> None:
    well = clusters.well()
    assert well.balancer is not None
    said = "nginx's configuration does not parse: /etc/nginx/conf.d/x.conf:3"
    broken = replace(well.balancer, config_valid=False, config_error=said, reload_pending=True)
    nodes = (replace(well.nodes[0], fault=said), *well.nodes[1:])
    found = alerts.alerts(replace(well, nodes=nodes, balancer=broken, healthy=False))
    assert [(alert.severity, alert.where, alert.text) for alert in found] == [
        ("error", "node1 nginx", said)
    ]


def test_a_card_slowed_down_and_an_engine_that_hangs_tell_the_mend() -> None:
    well = clusters.well()
    cool, slow, *others = well.gpus
    slow = replace(slow, sample=replace(slow.sample, throttle=("hardware_thermal_slowdown",)))
    limited = replace(cool, sample=replace(cool.sample, throttle=("software_power_cap",)))
    hung = replace(well.workers[0].sample, health="unreachable", fault="no answer within 3 s")
    workers = (replace(well.workers[0], sample=hung), *well.workers[1:])
    found = alerts.alerts(replace(well, gpus=(limited, slow, *others), workers=workers))
    assert [(alert.where, alert.text) for alert in found] == [
        (
            "node1/gpu0",
            "no answer within 3 s; read its log with l, restart it with r; f takes it out",
        ),
        (
            "node1 gpu 1",
            "slowed down by its hardware; nvidia-smi -q -d PERFORMANCE tells why",
        ),
    ]


@pytest.mark.parametrize(("age", "word"), [(29.9, "busy"), (34.2, "slow 34s")])
def test_a_worker_that_lives_and_tells_nothing_says_for_how_long(age: float, word: str) -> None:
    well = clusters.well()
    sample = replace(well.workers[0].sample, health="busy")
    mute = replace(well.workers[0], sample=sample, age_seconds=age + 0.5, silent_seconds=age)
    assert state.worker_state(mute).word == word
    found = alerts.alerts(replace(well, workers=(mute, *well.workers[1:])))
    told = [(alert.severity, alert.where) for alert in found]
    assert told == ([("warning", "node1/gpu0")] if word != "busy" else [])


def test_a_busy_worker_of_a_lost_node_is_not_called_slow() -> None:
    first = clusters.well().workers[0]
    old = replace(first, sample=replace(first.sample, health="busy"), age_seconds=70.0)
    assert state.worker_state(old).word == "busy"


def test_a_cluster_that_only_loads_is_said_to_load() -> None:
    well = clusters.well()
    loading = replace(well.workers[0], sample=replace(well.workers[0].sample, health="loading"))
    snapshot = replace(well, workers=(loading, *well.workers[1:]), healthy=False)
    text = totals.headline(snapshot, 0, 0, 100, fallback()).plain
    assert "◐ 1 loading" in text
    assert "unhealthy" not in text


def test_a_node_that_falls_silent_says_once_for_how_long() -> None:
    well = clusters.well()
    # What its link said when it gave up is older than what is known now.
    fault = "nothing was heard of it for 8 s"
    gone = replace(well.nodes[0], stale=True, reachable=False, age_seconds=12.4, fault=fault)
    (alert,) = alerts.alerts(replace(well, nodes=(gone, *well.nodes[1:])))
    said = "nothing was heard of it for 12s; are the machine and its network up?"
    assert (alert.severity, alert.text) == ("error", said)


def test_a_silent_node_speaks_for_its_workers() -> None:
    assert not any(alert.where == "node2/big" for alert in alerts.alerts(clusters.ill()))


def test_alerts_that_do_not_fit_are_counted() -> None:
    drawn = alerts.lines(alerts.alerts(clusters.ill()), 80, 3, PALETTE)
    assert len(drawn) == 3
    assert "and 4 more" in drawn[-1].plain


def test_nothing_is_wrong_before_the_first_tick() -> None:
    assert alerts.alerts(clusters.empty()) == []


@pytest.mark.parametrize("sort", SORTS)
def test_sorting_loses_no_row(sort: str) -> None:
    listed = rows(clusters.ill())
    assert sorted(row.name for row in arrange(listed, sort)) == sorted(row.name for row in listed)


def test_sorting_by_generation_puts_unknown_last() -> None:
    order = [row for row in arrange(rows(clusters.ill()), "generation") if row.worker]
    rates = [row.worker.generation_tokens_per_second for row in order if row.worker]
    known = [rate for rate in rates if rate is not None]
    assert known == sorted(known, reverse=True)
    assert rates[: len(known)] == known


@pytest.mark.parametrize(
    ("needle", "names"),
    [
        ("node3", {"node3/gpu0", "node3/gpu1"}),
        ("n3g1", {"node3/gpu1"}),
        ("crash", {"node1/gpu1"}),
        ("70b", {"node2/big"}),
        ("node3 down", {"node3/gpu0"}),
    ],
)
def test_the_filter_looks_in_name_model_and_state(needle: str, names: set[str]) -> None:
    assert {row.name for row in select(rows(clusters.ill()), needle)} == names


def test_a_plan_shows_every_command_and_every_line_of_its_diff() -> None:
    made = drain_plan("stop", ["node1/gpu0"])
    text = "\n".join(line.plain for line in plan.lines(made, {}, 100, PALETTE))
    for step in made.steps:
        for command in step.commands:
            assert str(command) in text
        for line in step.diff.splitlines():
            assert line in text


def test_long_commands_wrap_and_lose_nothing() -> None:
    made = drain_plan("stop", ["node1/gpu0"])
    narrow = "".join(line.plain.strip() for line in plan.lines(made, {}, 24, PALETTE))
    wide = "".join(line.plain.strip() for line in plan.lines(made, {}, 200, PALETTE))
    assert narrow.replace(" ", "") == wide.replace(" ", "")


def test_unknown_cuts_are_said_to_be_unknown() -> None:
    made = drain_plan("stop", ["node1/gpu0"], cuts_requests=None)
    assert "not known" in plan.lines(made, {}, 100, PALETTE)[0].plain


def test_a_plain_palette_has_no_colour_anywhere() -> None:
    palette = fallback(plain=True)
    assert set(palette.styles) == set(ROLES)
    assert all(style == attributes(style) for style in palette.styles.values())


def test_a_unit_without_endpoint_runs_or_does_not() -> None:
    assert (
        state.bare_unit_state(UnitState("nginx.service", active_state="active")).word == "running"
    )
    assert state.bare_unit_state(UnitState("nginx.service", active_state="failed")).word == "failed"
    assert state.bare_unit_state(UnitState("nginx.service")).word == "–"


def test_workers_of_a_silent_node_are_not_counted_as_serving() -> None:
    snapshot = clusters.well()
    silent = replace(snapshot.nodes[1], stale=True, age_seconds=9.0)
    snapshot = replace(snapshot, nodes=(snapshot.nodes[0], silent))
    line = totals.headline(snapshot, 1, 0, 100, PALETTE).plain
    assert "1/2 nodes" in line
    assert "2/3 workers" in line


def test_the_headline_counts_the_members_that_are_out() -> None:
    snapshot = clusters.well()
    first, second, third = snapshot.members
    out = (replace(first, state="down"), replace(second, state="draining"), third)
    line = totals.headline(replace(snapshot, members=out), 0, 0, 80, PALETTE).plain
    assert "✓ healthy   1 draining, 1 down" in line
    assert "down" not in totals.headline(snapshot, 0, 0, 80, PALETTE).plain


@pytest.mark.parametrize("width", range(10, 120))
def test_the_headline_never_takes_more_than_its_width(width: int) -> None:
    for snapshot, errors in ((clusters.well(), 0), (clusters.ill(), 12)):
        assert cell_len(totals.headline(snapshot, errors, 2, width, PALETTE).plain) <= max(
            width, 24
        )


@given(st.text(), st.integers(2, 60))
def test_wrapping_keeps_the_width_and_every_character(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == plain(text).replace(" ", "")


def test_a_declared_worker_of_a_node_never_read_is_unknown_and_not_old() -> None:
    well = clusters.well()
    node = replace(
        well.nodes[0], reachable=False, stale=True, age_seconds=None, fault="connection refused"
    )
    sample = WorkerSample(well.workers[0].unit.name, fault="node1 was not read yet")
    worker = WorkerView("node1/gpu0", "node1", UnitState(sample.unit), sample)
    row = rows(replace(well, nodes=(node,), workers=(worker,)))[0]
    assert (row.state.mark, row.state.word, row.stale_seconds) == ("?", "–", None)
