"""What a lost plan left drained is said once, with the key that puts it back."""

from __future__ import annotations

from msgspec.structs import replace

from llamatop.model.cluster import ClusterSnapshot, MemberView
from llamatop.model.observed import LeftDrained
from tests.screens import clusters
from tests.screens.stage import Stage, until


def left_drained(tick: int) -> ClusterSnapshot:
    well = clusters.well()
    assert well.balancer is not None
    line = MemberView("llama_cluster", "127.0.0.1:37080", "down", "node1/gpu0")
    left = LeftDrained("llama_cluster", line.address, "p1", "ann@desk", "roll node1/gpu0", 12)
    return replace(well, tick=tick, members=(line,), balancer=replace(well.balancer, left=(left,)))


async def test_it_is_offered_once_and_v_makes_the_plan() -> None:
    app = Stage()
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        app.fake.push(left_drained(41))
        words = "node1/gpu0 was left drained by ann@desk 12 min ago"
        await until(pilot, lambda: words in " ".join(app.shown().split()), "the offer")
        app.fake.push(left_drained(42))
        await until(pilot, lambda: app.snapshot.tick == 42, "the next snapshot")
        assert len([n for n in app._notifications if "left drained" in n.message]) == 1
        assert any(
            n.message.endswith("(roll node1/gpu0): v puts it back") for n in app._notifications
        )
        await pilot.press("v")
        await until(pilot, lambda: bool(app.hand.asked), "the plan")
        assert app.hand.asked == [("recover", (), False, False)]
        assert app.hand.executed == []


def taken_out(tick: int) -> ClusterSnapshot:
    left = left_drained(tick)
    assert left.balancer is not None
    (one,) = left.balancer.left
    why = "drain node1/gpu0 (auto-drain: it does not answer: timed out)"
    one = replace(one, what=why, auto=True)
    return replace(left, balancer=replace(left.balancer, left=(one,)))


STORY = "taken out by auto-drain of ann@desk 12 min ago: it does not answer: timed out"


async def test_what_auto_drain_took_out_says_why_and_stays_readable() -> None:
    app = Stage()
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        app.fake.push(taken_out(41))
        await until(pilot, lambda: bool(app._notifications), "the offer")
        (told,) = [one.message for one in app._notifications]
        assert told == f"node1/gpu0 was {STORY}: v puts it back"
        await pilot.press("enter")
        await until(pilot, lambda: "drained" in app.shown(), "the reason in its details")
        assert STORY in " ".join(app.shown().replace("│", " ").split())


async def test_what_it_will_put_back_itself_needs_no_key() -> None:
    app = Stage()
    app.auto_drains = True
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        app.fake.push(taken_out(41))
        await until(pilot, lambda: app.snapshot.tick == 41, "the snapshot")
        await pilot.pause()
        assert not app._notifications


async def test_what_cannot_go_back_now_is_no_nothing_to_do() -> None:
    app = Stage()
    stays = "node1/gpu0 stays drained: it does not run (inactive); start it, then undrain it"
    app.hand.changes = {"steps": (), "stays": (stays,)}
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        app.fake.push(left_drained(41))
        await until(pilot, lambda: bool(app._notifications), "the offer")
        await pilot.press("v")
        await until(pilot, lambda: stays in " ".join(app.shown().split()), "the reason")
        assert "refused" in app.shown()
        assert "nothing to do" not in app.shown()


async def test_read_only_says_it_without_a_key() -> None:
    app = Stage(read_only=True)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        app.fake.push(left_drained(41))
        await until(pilot, lambda: bool(app._notifications), "the word")
        assert all("puts it back" not in n.message for n in app._notifications)


async def test_what_changes_the_cluster_may_come_after_the_first_figures() -> None:
    app = Stage()
    app.operator = None
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        app.fake.push(left_drained(41))
        await until(pilot, lambda: bool(app._notifications), "the offer")
        assert any("puts it back" in n.message for n in app._notifications)
        await pilot.press("s")
        await until(pilot, lambda: "try again" in app.shown(), "the word")
        assert "read-only" not in app.shown()
