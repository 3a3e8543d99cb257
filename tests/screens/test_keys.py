"""Every key does what the help says, and answers what it cannot do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from llamatop.app.actions import KEYS, keys
from llamatop.app.screens.detail import DetailScreen
from llamatop.app.screens.help import HelpScreen
from llamatop.app.screens.logs import LogScreen
from llamatop.app.screens.main import MainScreen
from llamatop.app.widgets.detail import DetailPane
from llamatop.app.widgets.workers import WorkerTable
from llamatop.errors import NodeError
from tests.screens import clusters
from tests.screens.stage import Stage, settled, until

pytestmark = pytest.mark.slow


async def test_the_cursor_moves_by_every_key() -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        seen = [app.table.selected_name]
        for key in ("j", "down", "k", "up", "G", "g", "end", "home"):
            await pilot.press(key)
            seen.append(app.table.selected_name)
    first, second, third = "node1/gpu0", "node1/gpu1", "node2/big"
    last = "node2/tunnel-node2.service"
    assert seen == [first, second, third, second, first, last, first, last, first]


async def test_tab_goes_from_panel_to_panel_and_back_to_the_table() -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        visited = []
        for _ in range(4):
            await pilot.press("tab")
            visited.append(app.focused.id if app.focused else None)
    assert {"events", "gpus", "workers"} <= set(visited)


async def test_the_filter_is_fuzzy_and_escape_clears_it() -> None:
    app = Stage(clusters.ill())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("slash", *"crsh", "enter")
        assert [row.name for row in app.table._shown] == ["node1/gpu1"]
        assert "1 of 8" in app.shown()
        await pilot.press("escape")
        assert app.table.count() == 8


async def test_what_a_filter_found_stays_selected_without_it() -> None:
    app = Stage(clusters.ill())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("slash", *"crsh", "enter")
        assert app.table.selected_name == "node1/gpu1"
        await pilot.press("escape")
        assert app.table.count() == 8
        assert app.table.selected_name == "node1/gpu1"


async def test_a_filter_that_matches_nothing_says_so() -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("slash", *"zzz", "enter")
        assert "nothing matches" in app.shown()
        await pilot.press("x")
        await pilot.pause()
        assert app.hand.asked == []


async def test_keys_typed_into_the_filter_are_letters() -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("slash", "s", "x", "q", "d")
        await pilot.pause()
        assert app.is_running
        assert app.main.filter.value == "sxqd"
        assert app.hand.asked == []


async def test_sort_puts_the_worst_first_and_keeps_the_cursor_on_its_worker() -> None:
    app = Stage(clusters.ill())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("j", "k", "o")
        assert "by worst first" in app.shown()
        order = [row.name for row in app.table._shown]
        assert set(order[:4]) == {
            "node1/gpu1",
            "node2/big",
            "node3/gpu1",
            "node2/tunnel-node2.service",
        }
        assert app.table.selected_name == "node1/gpu0"


async def test_space_marks_and_a_plan_is_for_the_marked() -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("space", "space", "d")
        await until(pilot, lambda: bool(app.hand.asked), "the plan")
        assert app.hand.asked[0][:2] == ("drain", ("node1/gpu0", "node1/gpu1"))


@pytest.mark.parametrize(
    ("key", "action"),
    [("s", "start"), ("x", "stop"), ("r", "restart"), ("d", "drain"), ("u", "undrain")],
)
async def test_a_key_asks_for_a_plan(key: str, action: str) -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press(key)
        await until(pilot, lambda: bool(app.hand.asked), "the plan")
        assert app.hand.asked == [(action, ("node1/gpu0",), False, False)]
        assert app.hand.executed == []


@pytest.mark.parametrize("key", ["s", "x", "r", "d", "u"])
async def test_read_only_leaves_the_changing_keys_unbound(key: str) -> None:
    app = Stage(read_only=True)
    async with app.run_test(size=(80, 24)) as pilot:
        assert key not in app.screen.active_bindings
        await pilot.press(key)
        await pilot.pause()
        assert app.hand.asked == []
        assert isinstance(app.screen, MainScreen)
        assert "drain" not in app.shown().splitlines()[-1]


def test_read_only_help_names_no_changing_key() -> None:
    assert {key.text for key in KEYS if key.changes}.isdisjoint(
        key.text for key in keys(read_only=True)
    )


async def test_enter_opens_the_detail_and_escape_returns() -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("j", "enter")
        await settled(pilot)
        assert isinstance(app.screen, DetailScreen)
        assert "llama-server-gpu1.service" in app.shown()
        await pilot.press("d")
        await until(pilot, lambda: bool(app.hand.asked), "the plan")
        assert app.hand.asked[0][1] == ("node1/gpu1",)
        await pilot.press("escape", "escape")
        assert isinstance(app.screen, MainScreen)


async def test_the_log_pauses_searches_and_goes_back() -> None:
    app = Stage()
    app.fake.entries = [f"line {place} of the journal" for place in range(200)]

    def shows(words: str) -> Callable[[], bool]:
        return lambda: words in app.shown()

    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("l")
        await until(pilot, shows("line 199 of"), "the end")
        screen = app.screen
        assert isinstance(screen, LogScreen)
        await pilot.press("g")
        await until(pilot, shows("line 0 of"), "the beginning")
        assert not screen.journal.follow
        await pilot.press("slash", *"e 99", "enter")
        await until(pilot, shows("▸line 99 of"), "the hit")
        await pilot.press("escape", "f")
        await until(pilot, shows("line 199 of"), "the end")
        await pilot.press("escape")
        assert isinstance(app.screen, MainScreen)


async def test_a_journal_that_cannot_be_read_says_why() -> None:
    app = Stage()
    app.fake.entries = []
    app.fake.journal_fault = NodeError("node1", "the journal may not be read", "join group adm")
    async with app.run_test(size=(120, 24)) as pilot:
        await pilot.press("l")
        await until(pilot, lambda: "join group adm" in app.shown(), "the reason")


async def test_the_journal_follows_the_cursor_in_the_pane() -> None:
    app = Stage()
    async with app.run_test(size=(200, 60)) as pilot:
        pane = app.screen.query_one(DetailPane)
        await settled(pilot)
        # Both at once: however slow the machine, the cursor does not rest in between.
        app.simulate_key("j")
        app.simulate_key("j")
        await until(pilot, lambda: "node2/big" in app.fake.reading, "the other journal")
        await until(pilot, lambda: pane.journal.entry_count() == len(app.fake.entries), "its lines")
        # The cursor ran over gpu1 without opening its journal.
        assert app.fake.reading == ["node1/gpu0", "node2/big"]


async def test_no_journal_is_said_to_be_read_where_nothing_is_selected() -> None:
    app = Stage()
    async with app.run_test(size=(200, 60)) as pilot:
        await settled(pilot)
        await pilot.press("slash", *"zzz", "enter")
        await until(pilot, lambda: "journal" not in app.shown(), "the empty pane")
        assert "reading…" not in app.shown()


async def test_the_pane_gives_each_entry_one_line_without_the_server_s_own_time() -> None:
    app = Stage()
    async with app.run_test(size=(200, 60)) as pilot:
        await settled(pilot)
        lines = app.shown().splitlines()
        (first,) = [line for line in lines if "slot launch_slot_" in line]
        assert first.endswith("slot launch_slot_: id 0 | task 441")
        assert "0.09.070.426" not in first
        (timed,) = [line for line in lines if "eval time" in line]
        assert "▲ slot 0: eval time = 9412.11 ms / 512 tokens" in timed
    async with (app := Stage()).run_test(size=(120, 24)) as pilot:
        await pilot.press("l")
        await settled(pilot)
        # The log itself leaves nothing out.
        assert "0.09.070.426 I slot launch_slot_: id  0 | task 441" in app.shown()


async def test_help_lists_every_key() -> None:
    app = Stage()
    async with app.run_test(size=(100, 60)) as pilot:
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        text = app.shown()
        for key in KEYS:
            # Faults are brought on in the demo alone.
            assert (key.text in text) is not key.practice
        await pilot.press("escape")
        assert isinstance(app.screen, MainScreen)


async def test_the_palette_offers_every_action_and_theme() -> None:
    app = Stage()
    async with app.run_test(size=(100, 40)) as pilot:
        await pilot.press("ctrl+p")
        await until(pilot, lambda: "undrain" in app.shown(), "the palette")
        await pilot.press(*"undr", "enter")
        await until(pilot, lambda: bool(app.hand.asked), "the plan")
        assert app.hand.asked[0][0] == "undrain"


async def test_q_quits_at_once_while_nothing_runs() -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("q")
        await pilot.pause()
    assert app.return_code == 0


async def test_a_click_selects_and_a_second_opens() -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        row = app.table.region.y + 4
        await pilot.click(offset=(10, row))
        assert app.table.selected_name == "node1/gpu1"
        await pilot.click(offset=(10, row))
        await pilot.pause()
        assert isinstance(app.screen, DetailScreen)


async def test_a_click_on_the_bottom_line_presses_the_key() -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        place = app.shown().splitlines()[-1].index("drain")
        await pilot.click(offset=(place, 23))
        await until(pilot, lambda: bool(app.hand.asked), "the plan")
        assert app.hand.asked[0][0] == "drain"


async def test_the_shell_of_a_node_without_ssh_says_why() -> None:
    app = Stage()
    app.fake.shell = NodeError("node1", "is read by HTTP alone", "give it ssh in the cluster file")
    async with app.run_test(size=(100, 24), notifications=True) as pilot:
        await pilot.press("exclamation_mark")
        await until(pilot, lambda: "give it ssh" in app.shown(), "the reason")


async def test_the_screen_follows_the_snapshots() -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        worker = replace(app.fake.latest.workers[0], generation_tokens_per_second=77.7)
        later = replace(app.fake.latest, tick=41, workers=(worker, *app.fake.latest.workers[1:]))
        app.fake.push(later)
        await until(pilot, lambda: "77.7" in app.shown(), "the new rate")


async def test_a_worker_that_vanishes_takes_its_mark_along() -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("space", "k")
        latest = app.fake.latest
        app.fake.push(replace(latest, tick=41, workers=latest.workers[1:]))
        await until(pilot, lambda: app.table.total() == 4, "the new table")
        assert app.table.marked == set()
        assert app.table.selected_name == "node1/gpu1"


async def test_silence_of_the_source_is_said() -> None:
    now = [0.0]
    app = Stage(clock=lambda: now[0])
    async with app.run_test(size=(80, 24)) as pilot:
        app.fake.push(replace(app.fake.latest, tick=41))
        await until(pilot, lambda: app.snapshot.tick == 41, "the snapshot")
        now[0] = 9.0
        await until(pilot, lambda: "nothing new for 9s" in app.shown(), "the warning")


@pytest.mark.parametrize("size", [(1, 1), (10, 3), (23, 7), (24, 8), (31, 11), (40, 15), (300, 5)])
async def test_no_size_of_terminal_breaks_it(size: tuple[int, int]) -> None:
    app = Stage(clusters.ill())
    async with app.run_test(size=size) as pilot:
        await pilot.press("j", "x", "escape", "question_mark", "escape")
        assert app.shown().strip()
        await pilot.resize_terminal(120, 40)
        await until(pilot, lambda: "node1/gpu0" in app.shown(), "the table")
        await pilot.resize_terminal(*size)
        await until(pilot, lambda: bool(app.shown().strip()), "anything")


async def test_hostile_strings_reach_the_screen_as_data() -> None:
    app = Stage(clusters.hostile())
    async with app.run_test(size=(200, 60)) as pilot:
        await settled(pilot)
        text = app.shown()
        assert "[bold red]x[/]␛[31m" in text
        assert not set(text) & {"\x1b", "\x07", "\u202e", "\t"}
        await pilot.press("asterisk", "home", "enter")
        await until(pilot, lambda: "machine" in app.shown(), "the node in full")
        text = app.shown()
        assert "[bold red]x[/]␛[31m" in text.partition("machine")[2]
        assert not set(text) & {"\x1b", "\x07", "\u202e", "\t"}


async def test_a_tells_every_fault_in_full_and_follows_the_snapshots() -> None:
    app = Stage(clusters.ill())
    async with app.run_test(size=(60, 40)) as pilot:
        await pilot.press("a")
        await until(pilot, lambda: "advice" in app.shown(), "the faults")
        await pilot.press("slash", *"memory", "enter")
        words = " ".join(app.shown().split())
        assert "lower -ngl or --ctx-size" in words
        await pilot.press("escape", "slash", *"newer", "enter")
        words = " ".join(app.shown().split())
        assert "nginx -s reload applies it" in words
        await pilot.press("escape")
        app.fake.push(replace(clusters.well(), tick=41))
        await until(pilot, lambda: "mended: a file is newer" in app.shown(), "the good news")
        await pilot.press("escape", "a")
        await until(pilot, lambda: "nothing found" in app.shown(), "nothing but good news")


async def test_a_cluster_without_workers_says_so() -> None:
    app = Stage(replace(clusters.well(), workers=(), nodes=(clusters.node("node1"),)))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "no llama-server, Ollama or vLLM unit found" in app.shown()
        await pilot.press("d", "enter", "l")
        assert isinstance(app.screen, MainScreen)


async def test_the_cursor_waits_on_the_first_worker_until_it_is_moved() -> None:
    full = clusters.well()
    app = Stage(replace(full, workers=full.workers[2:]))
    async with app.run_test(size=(80, 24)) as pilot:
        assert app.table.selected_name == "node2/big"
        app.fake.push(replace(full, tick=41))
        await until(pilot, lambda: app.table.selected_name == "node1/gpu0", "the first worker")
        await pilot.press("j")
        app.fake.push(replace(full, tick=42, workers=full.workers[1:]))
        await until(pilot, lambda: app.table.total() == 4, "the shorter table")
        assert app.table.selected_name == "node1/gpu1"


async def test_f_plans_for_what_is_dead_wherever_the_cursor_is() -> None:
    well = clusters.well()
    second = replace(well.workers[1], unit=replace(well.workers[1].unit, active_state="failed"))
    workers = (well.workers[0], second, *well.workers[2:])
    # systemctl hangs beside it
    first = well.nodes[0]
    slow = replace(first, snapshot=replace(first.snapshot, ages={"units": 6.0}))
    app = Stage(replace(well, workers=workers, nodes=(slow, *well.nodes[1:])))
    async with app.run_test(size=(80, 24)) as pilot:
        assert app.table.selected_name == "node1/gpu0"
        assert "f takes it out" in " ".join(app.shown().split())
        await pilot.press("f")
        await until(pilot, lambda: bool(app.hand.asked), "the plan")
        assert app.hand.asked == [("drain", ("node1/gpu1",), False, False)]
        assert app.hand.executed == []


async def test_f_leaves_who_cannot_be_missed_and_takes_out_the_others() -> None:
    well = clusters.well()
    workers = tuple(
        replace(worker, unit=replace(worker.unit, active_state="failed"))
        if worker.name in ("node1/gpu0", "node2/big")
        else worker
        for worker in well.workers
    )
    app = Stage(replace(well, workers=workers))
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await pilot.press("f")
        await until(pilot, lambda: bool(app.hand.asked), "the plan")
        assert app.hand.asked == [("drain", ("node1/gpu0",), False, False)]
        assert "left in" in app.shown()
        await pilot.press("escape")


async def test_f_with_nobody_dead_says_so() -> None:
    app = Stage()
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await pilot.press("f")
        await until(pilot, lambda: "is dead; d takes out" in app.shown(), "the word")
        assert app.hand.asked == []


async def test_the_keys_are_the_tables_again_after_the_terminal_was_tiny() -> None:
    app = Stage(clusters.well())
    async with app.run_test(size=(100, 40)) as pilot:
        for size in ((60, 7), (100, 40)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        table = app.screen.query_one(WorkerTable)
        before = table.selected()
        await pilot.press("j")
        await until(pilot, lambda: table.selected() != before, "another row")
