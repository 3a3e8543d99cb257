"""The advice screen by its keys: what is found, in which order, where it leads, and its mend."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot

from llamatop.advise.doctor import Diagnosis
from llamatop.app import judging
from llamatop.app.render import advice as render
from llamatop.app.render.alerts import Alert
from llamatop.app.screens.advice import AdviceScreen
from llamatop.app.screens.detail import DetailScreen
from llamatop.app.screens.main import MainScreen
from llamatop.app.screens.plan import PlanDialog
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.declared import Silence
from tests.screens import clusters
from tests.screens.stage import Stage, until

Compare = Callable[..., bool]
SIZES = {"80x24": (80, 24), "200x60": (200, 60), "40x15": (40, 15)}


async def opened(pilot: Pilot[None], *keys: str) -> None:
    await pilot.press("a", *keys)
    await pilot.pause()


def selected(app: Stage) -> str:
    screen = app.screen
    assert isinstance(screen, AdviceScreen)
    row = screen.list.selected()
    assert row is not None
    return f"{row.entry.title} {row.places[0]}"


@pytest.mark.parametrize("size", SIZES)
def test_pictures(snap_compare: Compare, size: str) -> None:
    async def act(pilot: Pilot[None]) -> None:
        await opened(pilot, "j", "right", "j")

    assert snap_compare(Stage(clusters.frail()), terminal_size=SIZES[size], run_before=act)


async def test_the_dashboard_counts_what_is_found_and_is_quiet_without() -> None:
    app = Stage(clusters.frail())
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "a 4 findings" in app.shown(), "the count")
        app.fake.push(replace(clusters.well(), tick=41))
        await until(pilot, lambda: "finding" not in app.shown(), "quiet")


async def test_what_is_silenced_is_counted_and_not_shown() -> None:
    snapshot = clusters.frail()
    silences = (Silence("unit-no-restart"), Silence("tunnel-down"), Silence("process-outdated"))
    cluster = replace(snapshot.cluster, silences=silences)
    app = Stage(replace(snapshot, cluster=cluster))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        assert "5 silenced" in app.shown()
        assert "unit-not-enabled" in app.shown()
        assert "tunnel-down" not in app.shown()


async def test_enter_unfolds_places_and_goes_to_one() -> None:
    app = Stage(clusters.frail())
    async with app.run_test(size=(100, 40)) as pilot:
        await opened(pilot, "j")
        assert "node1/gpu0 +2" in app.shown()
        await pilot.press("enter", "j", "j")
        assert selected(app) == "unit-no-restart node1/gpu1"
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, DetailScreen), "the worker in full")
        assert app.screen.targets() == ["node1/gpu1"]
        await pilot.press("escape", "left")
        assert selected(app) == "unit-no-restart node1/gpu0"
        await pilot.press("escape")
        assert isinstance(app.screen, MainScreen)


async def test_a_tunnels_finding_leads_to_its_unit() -> None:
    app = Stage(clusters.frail())
    async with app.run_test(size=(100, 40)) as pilot:
        await opened(pilot, "enter")
        await until(pilot, lambda: isinstance(app.screen, DetailScreen), "the unit in full")
        assert app.screen.targets() == ["node1/autossh-node2"]


async def test_f_makes_the_plan_that_mends_it() -> None:
    app = Stage(clusters.frail())
    async with app.run_test(size=(100, 40)) as pilot:
        await opened(pilot, "j", "j")
        assert selected(app) == "unit-not-enabled node1/gpu0"
        await pilot.press("f")
        await until(pilot, lambda: isinstance(app.screen, PlanDialog), "the plan")
        assert app.hand.asked == [("enable", ("node1/gpu0",), False, False)]
        assert app.hand.executed == []


async def test_without_a_plan_f_says_so() -> None:
    app = Stage(clusters.frail())
    async with app.run_test(size=(100, 40)) as pilot:
        await opened(pilot, "j", "f")
        said = [one.message for one in app._notifications]
        assert "there is no plan for this; its mend is written above" in said
        assert app.hand.asked == []


async def test_read_only_offers_the_mend_in_words_alone() -> None:
    app = Stage(clusters.frail(), read_only=True)
    async with app.run_test(size=(100, 40)) as pilot:
        await opened(pilot, "j", "j", "f")
        assert "llamatop enable node1/gpu0" in app.shown()
        assert "the plan is shown first" not in app.shown()
        assert app.hand.asked == []


async def test_c_copies_the_mend() -> None:
    app = Stage(clusters.frail())
    async with app.run_test(size=(100, 40)) as pilot:
        await opened(pilot, "j", "j", "c")
        assert app.copied == "llamatop enable node1/gpu0"


async def test_the_filter_takes_words() -> None:
    app = Stage(clusters.frail())
    async with app.run_test(size=(100, 40)) as pilot:
        await opened(pilot, "slash", *"ctx-size", "enter")
        assert selected(app) == "process-outdated node1/gpu1"
        assert "1 of 5 /ctx-size" in app.shown()
        await pilot.press("escape")
        assert "1 of 5" not in app.shown()


def frailer() -> ClusterSnapshot:
    """One more warning, and the cursor's own line gone."""
    snapshot = clusters.frail(41)
    first, *others = snapshot.workers
    crashing = replace(
        first,
        unit=replace(
            first.unit,
            unit_file_state="enabled",
            restarts=9,
            since=clusters.NOW.timestamp() - 30,
        ),
    )
    return replace(snapshot, workers=(crashing, *others))


async def test_lines_keep_their_place_and_what_is_mended_stays_till_one_leaves() -> None:
    app = Stage(clusters.frail())
    async with app.run_test(size=(100, 40)) as pilot:
        await opened(pilot, "j", "j")
        app.fake.push(frailer())
        await until(pilot, lambda: "NRestarts=9" in app.shown(), "the new one")
        assert selected(app) == "unit-not-enabled node1/gpu0"
        shown = app.shown()
        assert "mended: it runs with UnitFileState=disabled" in shown
        assert shown.index("NRestarts=9") < shown.index("no After")
        await pilot.press("escape", "a")
        await pilot.pause()
        assert "UnitFileState=disabled" not in app.shown()


def failed(places: tuple[int, ...], membership: str = "in", tick: int = 40) -> ClusterSnapshot:
    """A cluster whose workers at these places have failed."""
    snapshot = clusters.well(tick)
    workers = tuple(
        replace(
            worker,
            unit=replace(worker.unit, active_state="failed", result="oom-kill"),
            membership=membership,  # type: ignore[arg-type]  # a membership's word
        )
        if place in places
        else worker
        for place, worker in enumerate(snapshot.workers)
    )
    return replace(snapshot, workers=workers)


async def test_what_a_finding_tells_is_not_told_again_as_an_alert() -> None:
    app = Stage(failed((0,)))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        assert selected(app) == "worker-dead-in-upstream node1/gpu0"
        assert "1 error " in app.shown()
        assert "now" not in app.shown().split()


async def test_alerts_that_say_the_same_are_one_line_with_its_places() -> None:
    app = Stage(failed((0, 1), "absent"))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        assert selected(app) == "now node1/gpu0"
        assert "node1/gpu0 +1" in app.shown()
        await pilot.press("enter", "j", "j")
        assert selected(app) == "now node1/gpu1"
        await pilot.press("f", "c")
        assert app.hand.asked == []
        assert app.copied == ""
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, DetailScreen), "the worker in full")


async def test_an_alert_whose_figures_move_is_still_the_same() -> None:
    def lost(age: float, tick: int) -> ClusterSnapshot:
        snapshot = clusters.well(tick)
        first, second = snapshot.nodes
        gone = replace(second, reachable=False, age_seconds=age, fault="no answer for 9 s")
        return replace(snapshot, nodes=(first, gone))

    app = Stage(lost(9, 40))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        assert "(9s old)" in app.shown()
        app.fake.push(lost(75, 41))
        await until(pilot, lambda: "(1m15s old)" in app.shown(), "the new age")
        assert "mended" not in app.shown()


def words(*alerts: Alert) -> list[render.Entry]:
    return render.entries(alerts, None)


def test_alerts_that_differ_in_a_name_or_code_are_two() -> None:
    for one, other in (
        ("qwen2-7b is not on the disk", "qwen3-8b is not on the disk"),
        ("smollm-135m is missing", "smollm-360m is missing"),
        ("GET /slots gave 500", "GET /slots gave 503"),
        ("its models need 12 GiB", "its models need 90 GiB"),
    ):
        assert len(words(Alert("error", "a", one), Alert("error", "a", other))) == 2
    for one, other in (
        ("silent for 59s", "silent for 1m02s"),
        ("12 % on the CPU", "7.5% on the CPU"),
        ("started again, 4 times so far", "started again, 15 times so far"),
        ("lost (9s old)", "lost (1h02m old)"),
    ):
        assert words(Alert("error", "a", one))[0].key == words(Alert("error", "a", other))[0].key


def test_a_place_that_comes_twice_has_two_lines_of_their_own() -> None:
    (entry,) = words(Alert("warning", "a", "4 % spills"), Alert("warning", "a", "5 % spills"))
    keys = [row.key for row in render.unfolded(entry)]
    assert len(set(keys)) == 2


async def test_f_on_an_alert_takes_out_what_is_dead() -> None:
    well = clusters.well()
    failed = replace(well.workers[0], unit=replace(well.workers[0].unit, active_state="failed"))
    node = well.nodes[0]
    # systemctl hangs beside it, so that no rule tells of it
    slow = replace(node, snapshot=replace(node.snapshot, ages={"units": 6.0}))
    snapshot = replace(well, workers=(failed, *well.workers[1:]), nodes=(slow, *well.nodes[1:]))
    app = Stage(snapshot)
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        assert selected(app) == "now node1/gpu0"
        assert "f take out what is dead" in app.shown()
        await pilot.press("f")
        await until(pilot, lambda: bool(app.hand.asked), "the plan")
        assert app.hand.asked == [("drain", ("node1/gpu0",), False, False)]


async def test_the_rules_are_loaded_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[bool] = []
    real = judging.judged

    def judged(snapshot: ClusterSnapshot) -> Diagnosis:
        threads.append(threading.current_thread() is threading.main_thread())
        return real(snapshot)

    monkeypatch.setattr(judging, "judged", judged)
    monkeypatch.delitem(sys.modules, "llamatop.advise.doctor")
    app = Stage(clusters.frail())
    async with app.run_test(size=(100, 40)) as pilot:
        await opened(pilot)
        await until(pilot, lambda: "Restart=no" in app.shown(), "the findings")
        assert threads[0] is False


async def test_a_fleet_is_judged_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "AT_ONCE", 0)
    app = Stage(clusters.frail())
    async with app.run_test(size=(100, 40)) as pilot:
        await opened(pilot)
        await until(pilot, lambda: "Restart=no" in app.shown(), "the findings")


async def test_nothing_is_judged_that_would_not_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: list[int] = []
    real = judging.judged

    def judged(snapshot: ClusterSnapshot) -> Diagnosis:
        ticks.append(snapshot.tick)
        return real(snapshot)

    monkeypatch.setattr(judging, "judged", judged)
    app = Stage(clusters.frail())
    async with app.run_test(size=(60, 7)) as pilot:
        app.fake.push(replace(clusters.frail(), tick=41))
        await until(pilot, lambda: app.snapshot.tick == 41, "the next tick")
        assert ticks == []
        await pilot.resize_terminal(100, 40)
        await until(pilot, lambda: app.judging.diagnosis is not None, "the findings")
        assert ticks == [41]
        await until(pilot, lambda: "finding" in app.shown(), "the findings on the screen")


async def test_advice_is_judged_on_any_terminal() -> None:
    app = Stage(clusters.frail())
    async with app.run_test(size=(60, 7)) as pilot:
        await pilot.press("a")
        await until(pilot, lambda: app.judging.diagnosis is not None, "the findings")


async def test_hostile_words_stay_words() -> None:
    snapshot = clusters.frail()
    first, *others = snapshot.workers
    evil = "\x1b]0;owned\x07[red]\u202e"
    unit = replace(first.unit, name=evil, unit_file_state="disabled")
    app = Stage(
        replace(snapshot, workers=(replace(first, name=f"node1/{evil}", unit=unit), *others))
    )
    async with app.run_test(size=(100, 40)) as pilot:
        await opened(pilot, "j", "j")
        assert "[red]" in app.shown()
        assert not set(app.shown()) & {"\x1b", "\x07", "\u202e"}


def looping(times: int, tick: int) -> ClusterSnapshot:
    """node1/gpu0 in a crash loop, which nginx still sends to."""
    base = clusters.well()
    unit = replace(
        base.workers[0].unit, active_state="activating", sub_state="auto-restart", restarts=times
    )
    workers = (replace(base.workers[0], unit=unit), *base.workers[1:])
    return replace(base, tick=tick, workers=workers)


async def test_a_dead_member_is_listed_once_with_its_plan() -> None:
    app = Stage(looping(4, 41))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot)
        app.fake.push(looping(5, 42))
        await until(pilot, lambda: app.snapshot.tick == 42, "the next round")
        screen = app.screen
        assert isinstance(screen, AdviceScreen)
        titles = [(row.title, row.places) for row in screen.list.entries]
        assert titles == [("worker-dead-in-upstream", ("node1/gpu0",))]
        assert "mended" not in app.shown()
        assert "they fail or hang" in app.shown()
        await pilot.press("f")
        await until(pilot, lambda: bool(app.hand.asked), "the plan")
        assert app.hand.asked == [("drain", ("node1/gpu0",), False, False)]
