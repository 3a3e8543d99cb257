"""A worker split over cards as one process on each, and back: the plan, and its undoing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace

from llamatop.errors import NodeError, PlanFailed, Refused, Unreachable, UsageError
from llamatop.model.cluster import ClusterSnapshot, GpuView
from llamatop.model.observed import GpuSample, LeftDrained, Tunnel
from llamatop.model.plan import Command, Plan, StepResult
from llamatop.operate import sudoers, unit_files
from llamatop.operate.audit import Audit
from llamatop.operate.record import plan_record
from llamatop.operate.service import ClusterOperator
from llamatop.transport.base import Completed
from tests.unit.operate.fakes import (
    CONF,
    MAIN,
    FakeCluster,
    FakeFleet,
    FakeMachine,
    FakeSource,
    FakeWorker,
)

UNITS = "/etc/systemd/system"
BIG = """[Service]
Environment=CUDA_VISIBLE_DEVICES=0,1
ExecStart=/opt/llama-server -m a.gguf --port 37081 --api-key geheim -ts 1,1
[Install]
WantedBy=multi-user.target
"""
UPSTREAM = b"""upstream llama_cluster {
    server 127.0.0.1:37081 weight=2;
    server 127.0.0.1:37082;
}
"""
GIB = 2**30


@dataclass
class Cards(FakeCluster):
    """One node of three cards: `big` over two of them, `gpu2` alone; unit files are in `files`."""

    memory: int = 4 * GIB
    free: int = 20 * GIB
    listening: tuple[int, ...] = (37081, 37082)
    root_of_units: str = ""
    cards: int = 3
    journal: str | None = None
    full: tuple[str, ...] = ()
    failing: set[str] = field(default_factory=set)
    refusing: set[tuple[str, str]] = field(default_factory=set)
    linked: Callable[[], object] = lambda: None
    cuts: int = 0
    unreadable: bytes = b""

    @classmethod
    def one(cls) -> Cards:
        workers = {
            "node1/big": FakeWorker("llama-server-big.service", "127.0.0.1:37081", pid=11),
            "node1/gpu2": FakeWorker("llama-server-gpu2.service", "127.0.0.1:37082", pid=12),
        }
        files = {MAIN: b"http { include conf.d/*.conf; }\n", CONF: UPSTREAM}
        files[f"{UNITS}/llama-server-big.service"] = BIG.encode()
        text = BIG.replace("0,1", "2").replace("37081", "37082").replace(" -ts 1,1", "")
        files[f"{UNITS}/llama-server-gpu2.service"] = text.encode()
        return cls(workers, {}, files)

    @classmethod
    def two_singles(cls, conf: bytes) -> Cards:
        """`gpu0` and `gpu2`, one card each."""
        cards = cls.one()
        del cards.workers["node1/big"]
        del cards.files[f"{UNITS}/llama-server-big.service"]
        cards.workers["node1/gpu0"] = FakeWorker("llama-server-gpu0.service", "127.0.0.1:37080")
        text = cards.text("llama-server-gpu2.service")
        text = text.replace("DEVICES=2", "DEVICES=0").replace("37082", "37080")
        cards.files |= {f"{UNITS}/llama-server-gpu0.service": text.encode(), CONF: conf}
        return cards

    def operator(self, audit: Path) -> ClusterOperator:
        return ClusterOperator(FakeSource(self), CardsFleet(self), Audit(audit))

    def text(self, unit: str) -> str:
        return self.files[f"{UNITS}/{unit}"].decode()

    def units(self) -> list[str]:
        return sorted(path.rpartition("/")[2] for path in self.files if path.startswith(UNITS))

    def snapshot(self, tick: int = 0) -> ClusterSnapshot:
        made = super().snapshot(tick)
        workers = []
        used = dict.fromkeys(range(self.cards), 0)
        pids: dict[int, dict[str, int | None]] = {card: {} for card in used}
        for view in made.workers:
            text = self.text(view.unit.name)
            found = re.search(r"CUDA_VISIBLE_DEVICES=(\d+(?:,\d+)*)", text)
            port = re.search(r"--port (\d+)", text)
            assert found
            assert port
            gpus = tuple(int(card) for card in found[1].split(","))
            pid = self.workers[view.name].pid
            running = view.unit.active_state == "active"
            for card in gpus if running else ():
                used[card] += self.memory
                pids[card][str(pid)] = self.memory
            launch = replace(
                view.sample.launch, cuda_visible_devices=found[1], port=int(port[1]), model="a"
            )
            sample = replace(
                view.sample, engine="llama-server", launch=launch, pids=(pid,) if running else None
            )
            workers.append(replace(view, gpus=gpus, sample=sample))
        gpus_seen = tuple(
            GpuView(
                "node1",
                GpuSample(
                    f"GPU-{card}",
                    card,
                    memory_used_bytes=24 * GIB - self.free if card < 2 else used[card],
                    memory_total_bytes=24 * GIB,
                    processes=pids[card],
                ),
            )
            for card in used
        )
        return replace(made, workers=tuple(workers), gpus=gpus_seen)


class CardsFleet(FakeFleet):
    def machine(self, node_name: str) -> FakeMachine:
        return CardsMachine(self._cluster, node_name)


class CardsMachine(FakeMachine):
    """Knows the commands by which units are made."""

    async def run(
        self, command: Command, stdin: bytes = b"", timeout_seconds: float = 30.0
    ) -> Completed:
        cards, argv = self.cluster, list(command.argv)
        assert isinstance(cards, Cards)
        if cards.cuts:
            cards.cuts -= 1
            raise Unreachable(self.name, "the connection was cut")
        bare = argv[2:] if argv[:2] == ["sudo", "-n"] else argv
        ok = Completed(0, b"", b"")
        match bare:
            case ["env", "LC_ALL=C", "cat", *_] | ["cat", *_] if cards.unreadable:
                return Completed(1, b"", b"cat: " + cards.unreadable)
            case ["journalctl", *rest] if cards.journal is not None:
                by_sudo = argv[0] == "sudo" and rest[-2:] == ["-n", "200"]
                return Completed(0, cards.journal.encode() if by_sudo else b"", b"")
            case ["systemctl", "show", "-p", "Id,ExecMainCode,ExecMainStatus", "--", unit]:
                text = f"Id={unit}\nExecMainCode=1\nExecMainStatus=1\n"
                return Completed(0, text.encode(), b"")
            case ["systemctl", "show", "-p", "Id,ActiveState", "--", unit]:
                active = [w.active for w in cards.workers.values() if w.unit == unit]
                return Completed(0, f"ActiveState={(*active, 'inactive')[0]}\n".encode(), b"")
            case ["ls", "-1A", "--", *_]:
                return Completed(0, "\n".join(cards.units()).encode(), b"")
            case ["cat", "/proc/net/tcp", *_]:
                lines = (f"0: 0100007F:{p:04X} 0:0 0A x" for p in cards.listening)
                return Completed(0, "\n".join(lines).encode(), b"")
            case ["grep", *_]:
                return Completed(0, b"37081\n37083\n", b"")
            case ["stat", *_]:
                return Completed(0, b"644\n", b"")
            case ["systemctl", "show", *_, unit]:
                path = f"{cards.root_of_units}{UNITS}/{unit}"
                return Completed(0, f"Id={unit}\nFragmentPath={path}\n".encode(), b"")
            case ["env", "LC_ALL=C", "cat", "--", path]:
                return await self.run(Command(("cat", "--", path)))
            case ["cat", "--", path] if path not in cards.files:
                return Completed(1, b"", b"No such file")
            case ["install", *_, "/dev/stdin", path] if path.rpartition(".")[0] in cards.full:
                cards.files[path] = stdin[:9]
                words = f"install: error writing '{path}': No space left on device"
                return Completed(1, b"", words.encode())
            case ["install", *_, "/dev/stdin", path]:
                cards.files[path] = stdin
            case ["ln", "-T", "--", beside, path]:
                if path in cards.files:
                    return Completed(1, b"", b"File exists")
                cards.files[path] = cards.files[beside]
                unit = path.rpartition("/")[2]
                name = unit.removeprefix("llama-server-").removesuffix(".service")
                port = re.search(r"--port (\d+)", cards.text(unit))
                assert port
                cards.workers[f"node1/{name}"] = FakeWorker(
                    unit,
                    f"127.0.0.1:{port[1]}",
                    active="inactive",
                    sub="dead",
                    enabled="disabled",
                    fails="failed" if unit in cards.failing else "",
                )
                cards.linked()
                await asyncio.sleep(0.01)
            case ["rm", "-f", "--", path]:
                cards.files.pop(path, None)
                unit = path.rpartition("/")[2]
                for name in [n for n, w in cards.workers.items() if w.unit == unit]:
                    del cards.workers[name]
            case ["systemctl", "--no-ask-password", "reset-failed", *_]:
                pass
            case ["systemctl", "--no-ask-password", verb, "--", unit] if (
                verb,
                unit,
            ) in cards.refusing:
                return Completed(1, b"", b"No.\n")
            case _:
                return await super().run(command, stdin, timeout_seconds)
        if cards.root or argv[0] == "sudo":
            cards.ran.append((self.name, str(command)))
        return ok


async def carried_out(operator: ClusterOperator, plan: Plan) -> list[StepResult]:
    return [result async for result in operator.execute(plan)]


def outline(plan: Plan) -> list[str]:
    return [step.title for step in plan.steps]


async def test_with_room_the_new_ones_serve_before_the_old_leaves(tmp_path: Path) -> None:
    cluster = Cards.one()
    operator = cluster.operator(tmp_path / "audit.jsonl")
    plan = await operator.plan("unsplit", ["node1/big"])
    assert outline(plan) == [
        f"write {UNITS}/llama-server-gpu0.service",
        f"write {UNITS}/llama-server-gpu1.service",
        "daemon-reload: new unit files",
        "enable node1/gpu0",
        "start node1/gpu0",
        "wait until node1/gpu0 answers",
        "enable node1/gpu1",
        "start node1/gpu1",
        "wait until node1/gpu1 answers",
        "put node1/gpu0, node1/gpu1 in, drain node1/big",
        "wait until nothing runs on node1/big",
        "stop node1/big",
        "disable node1/big",
    ]
    assert "+    server 127.0.0.1:37084 weight=2;" in plan.text()
    assert "-Environment=CUDA_VISIBLE_DEVICES=0,1\n" in plan.steps[0].diff
    told = plan.text() + str(plan_record(plan))
    assert "geheim" not in told, "a key is never shown or written down"
    await carried_out(operator, plan)
    assert cluster.files[CONF] == UPSTREAM.replace(
        b"weight=2;\n",
        b"weight=2 down;\n    server 127.0.0.1:37084 weight=2;\n"
        b"    server 127.0.0.1:37085 weight=2;\n",
    )
    assert "--api-key geheim" in cluster.text("llama-server-gpu1.service")
    assert cluster.workers["node1/big"].active == "inactive"
    with pytest.raises(Refused, match="llamatop split takes that back"):
        await operator.plan("undo", [])


async def test_back_the_old_unit_is_used_again_and_so_are_the_others(tmp_path: Path) -> None:
    cluster = Cards.one()
    operator = cluster.operator(tmp_path / "audit.jsonl")
    await carried_out(operator, await operator.plan("unsplit", ["node1/big"]))
    plan = await operator.plan("split", ["node1/gpu0", "node1/gpu1"])
    assert not [step for step in plan.steps if step.kind == "unit-file"]
    await carried_out(operator, plan)
    assert cluster.states() == {
        "127.0.0.1:37081": False,
        "127.0.0.1:37084": True,
        "127.0.0.1:37085": True,
        "127.0.0.1:37082": False,
    }
    assert cluster.workers["node1/big"].enabled == "enabled"
    again = await operator.plan("unsplit", ["node1/big"])
    assert not [step for step in again.steps if step.kind == "unit-file"]


async def test_without_room_the_old_one_leaves_first(tmp_path: Path) -> None:
    cluster = Cards.one()
    cluster.free = 6 * GIB
    operator = cluster.operator(tmp_path / "audit.jsonl")
    plan = await operator.plan("unsplit", ["node1/big"])
    assert outline(plan)[:4] == [
        "drain node1/big",
        "wait until nothing runs on node1/big",
        "stop node1/big",
        "disable node1/big",
    ]
    assert outline(plan)[-1] == "put node1/gpu0, node1/gpu1 in"
    await carried_out(operator, plan)
    assert cluster.states()["127.0.0.1:37081"] is True
    assert cluster.states()["127.0.0.1:37085"] is False


async def test_the_last_member_is_not_taken_out_first_unless_forced(tmp_path: Path) -> None:
    cluster = Cards.one()
    cluster.files[CONF] = UPSTREAM.replace(
        b"server 127.0.0.1:37082", b"server 127.0.0.1:37082 down"
    )
    operator = cluster.operator(tmp_path / "audit.jsonl")
    assert (await operator.plan("unsplit", ["node1/big"])).warnings == ()
    cluster.free = 6 * GIB
    with pytest.raises(Refused, match=r"the last member in .*--force.*no room for old and new"):
        await operator.plan("unsplit", ["node1/big"])
    forced = await operator.plan("unsplit", ["node1/big"], force=True)
    assert any("the last member in" in warning for warning in forced.warnings)


async def test_a_model_that_cannot_fit_one_card_is_refused(tmp_path: Path) -> None:
    cluster = Cards.one()
    cluster.memory, cluster.free = 14 * GIB, 10 * GIB
    operator = cluster.operator(tmp_path / "audit.jsonl")
    with pytest.raises(Refused, match=r"takes 28.0G.*would not fit; --force"):
        await operator.plan("unsplit", ["node1/big"])


@pytest.mark.parametrize("free", [20 * GIB, 6 * GIB])
async def test_what_does_not_come_up_is_undone_whole(tmp_path: Path, free: int) -> None:
    cluster = Cards.one()
    cluster.free, cluster.failing = free, {"llama-server-gpu1.service"}
    units = cluster.units()
    operator = cluster.operator(tmp_path / "audit.jsonl")
    with pytest.raises(PlanFailed, match=r"it is failed.*undone: remove"):
        await carried_out(operator, await operator.plan("unsplit", ["node1/big"]))
    assert cluster.files[CONF] == UPSTREAM
    assert cluster.units() == units
    big = cluster.workers["node1/big"]
    assert (big.active, big.health, big.enabled) == ("active", "ok", "enabled")
    assert set(cluster.workers) == {"node1/big", "node1/gpu2"}


async def test_a_late_drain_takes_the_new_lines_out_again(tmp_path: Path) -> None:
    cluster = Cards.one()
    cluster.workers["node1/big"].busy = 1
    operator = cluster.operator(tmp_path / "audit.jsonl")
    plan = await operator.plan("unsplit", ["node1/big"], timeout_seconds=0.3)
    with pytest.raises(PlanFailed, match=r"not done after 0.3 s.*127.0.0.1:37081 in again"):
        await carried_out(operator, plan)
    assert cluster.files[CONF] == UPSTREAM
    assert set(cluster.workers) == {"node1/big", "node1/gpu2"}


async def test_a_file_that_came_meanwhile_is_never_overwritten(tmp_path: Path) -> None:
    cluster = Cards.one()
    operator = cluster.operator(tmp_path / "audit.jsonl")
    plan = await operator.plan("unsplit", ["node1/big"])
    theirs = f"{UNITS}/llama-server-gpu1.service"
    cluster.files[theirs] = BIG.encode()
    with pytest.raises(PlanFailed, match="File exists"):
        await carried_out(operator, plan)
    assert cluster.files[theirs] == BIG.encode()
    assert f"{UNITS}/llama-server-gpu0.service" not in cluster.files
    assert cluster.files[CONF] == UPSTREAM


async def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    cluster = Cards.one()
    units = cluster.units()
    operator = cluster.operator(tmp_path / "audit.jsonl")
    cluster.full = (f"{UNITS}/.llama-server-gpu1.service",)
    with pytest.raises(PlanFailed, match=rf"No space left on device: free some there.*{UNITS}"):
        await carried_out(operator, await operator.plan("unsplit", ["node1/big"]))
    assert cluster.units() == units
    assert cluster.files[CONF] == UPSTREAM
    assert cluster.begun == []


async def test_a_missing_right_names_the_option(tmp_path: Path) -> None:
    cluster = Cards.one()
    cluster.root, cluster.sudo_refuses = False, "/dev/stdin"
    operator = cluster.operator(tmp_path / "audit.jsonl")
    with pytest.raises(NodeError, match=r"`install -m 0644.*nothing was begun.*--write-units"):
        await operator.plan("unsplit", ["node1/big"])


async def test_where_systemd_is_simulated_nothing_comes_into_the_real_one(tmp_path: Path) -> None:
    cluster = Cards.one()
    cluster.root_of_units = "/tmp/demo/node1"
    operator = cluster.operator(tmp_path / "audit.jsonl")
    with pytest.raises(NodeError, match="no place of systemd's own"):
        await operator.plan("unsplit", ["node1/big"])


async def test_what_makes_no_sense_is_said(tmp_path: Path) -> None:
    cluster = Cards.one()
    operator = cluster.operator(tmp_path / "audit.jsonl")
    plan = await operator.plan("unsplit", ["node1/gpu2"])
    assert (plan.steps, plan.nothing) == ((), ("node1/gpu2 runs on one GPU already",))
    with pytest.raises(UsageError, match="two workers or more"):
        await operator.plan("split", ["node1/gpu2"])
    both = await operator.plan("unsplit", ["node1/*"])
    assert both.nothing == plan.nothing
    assert [step.title for step in both.steps if step.verb == "stop"] == ["stop node1/big"]
    cluster.workers["node1/big"].active = "inactive"
    with pytest.raises(Refused, match="does not run"):
        await operator.plan("unsplit", ["node1/big"])


async def test_behind_a_tunnel_a_forward_is_used_or_asked_for(tmp_path: Path) -> None:
    cluster = Cards.one()
    cluster.tunnels = {
        "node1": (Tunnel("L", "127.0.0.1:37081", "127.0.0.1:37081", "node2", 9, "t.service"),)
    }
    operator = cluster.operator(tmp_path / "audit.jsonl")
    with pytest.raises(Refused, match=r"add a forward to port 37084 of node1 to the tunnel"):
        await operator.plan("unsplit", ["node1/big"])
    ports = ((40001, 37094), (40002, 37095))
    more = (
        Tunnel("L", f"127.0.0.1:{n}", f"127.0.0.1:{f}", "node2", 9, "t.service") for n, f in ports
    )
    cluster.tunnels = {"node1": (*cluster.tunnels["node1"], *more)}
    text = (await operator.plan("unsplit", ["node1/big"])).text()
    assert "+    server 127.0.0.1:40001 weight=2;" in text
    assert "--port 37094" in text


async def test_recover_starts_again_what_a_killed_plan_had_stopped(tmp_path: Path) -> None:
    cluster, operator = await killed_after(tmp_path, "start node1/gpu0")
    plan = await operator.plan("recover", [])
    assert outline(plan) == [
        "stop node1/gpu0",
        "disable node1/gpu0",
        "start node1/big",
        "enable node1/big",
        "wait until node1/big answers",
        "put node1/big back in",
        f"remove {UNITS}/llama-server-gpu0.service",
        f"remove {UNITS}/llama-server-gpu1.service",
        "write down that unsplit node1/big is over",
    ]
    await carried_out(operator, plan)
    assert cluster.states() == {"127.0.0.1:37081": False, "127.0.0.1:37082": False}
    assert cluster.workers["node1/big"].active == "active"


@pytest.mark.parametrize(
    "conf",
    [
        b"upstream u { server 127.0.0.1:37082; }\n",
        b"upstream u { server 127.0.0.1:37082; }\nupstream v { server 127.0.0.1:37080; }\n",
    ],
)
@pytest.mark.parametrize("order", [("gpu0", "gpu2"), ("gpu2", "gpu0")])
async def test_workers_of_unlike_upstreams_do_not_become_one(
    tmp_path: Path, conf: bytes, order: tuple[str, str]
) -> None:
    operator = Cards.two_singles(conf).operator(tmp_path / "audit.jsonl")
    with pytest.raises(Refused, match=r"node1/gpu. serves in upstream ., node1/gpu. .*: drain"):
        await operator.plan("split", [f"node1/{name}" for name in order])


async def test_what_serves_is_drained_before_it_stops_though_nothing_new_joins(
    tmp_path: Path,
) -> None:
    conf = b"upstream u { server 127.0.0.1:37080; server 127.0.0.1:37082; }\n"
    cluster = Cards.two_singles(conf + b"upstream v { server 127.0.0.1:37099 down; }\n")
    text = cluster.text("llama-server-gpu0.service").replace("DEVICES=0", "DEVICES=0,2")
    cluster.files[f"{UNITS}/llama-server-big.service"] = text.replace("37080", "37099").encode()
    cluster.workers["node1/big"] = FakeWorker(
        "llama-server-big.service", "127.0.0.1:37099", active="inactive", sub="dead"
    )
    operator = cluster.operator(tmp_path / "audit.jsonl")
    with pytest.raises(Refused, match="all that is in of upstream u"):
        await operator.plan("split", ["node1/gpu0", "node1/gpu2"])


@pytest.mark.parametrize("refused", ["disable", "disable start"])
async def test_the_new_ones_stay_where_the_old_one_does_not_come_back(
    tmp_path: Path, refused: str
) -> None:
    cluster = Cards.one()
    operator = cluster.operator(tmp_path / "audit.jsonl")
    plan = await operator.plan("unsplit", ["node1/big"])
    big = cluster.workers["node1/big"]
    big.fails = "failed"
    cluster.refusing = {(verb, big.unit) for verb in refused.split()}
    with pytest.raises(PlanFailed, match=r"37081 .*does not serve.*node1/gpu0, node1/gpu1 stay"):
        await carried_out(operator, plan)
    assert cluster.states() == {
        "127.0.0.1:37081": True,
        "127.0.0.1:37084": False,
        "127.0.0.1:37085": False,
        "127.0.0.1:37082": False,
    }
    for name in ("node1/gpu0", "node1/gpu1"):
        worker = cluster.workers[name]
        assert (worker.active, worker.health, worker.enabled) == ("active", "ok", "enabled")
        assert worker.unit in cluster.units()


async def test_what_did_not_start_again_is_not_put_in(tmp_path: Path) -> None:
    cluster = Cards.one()
    cluster.free, cluster.failing = 6 * GIB, {"llama-server-gpu1.service"}
    cluster.refusing = {("start", "llama-server-big.service")}
    operator = cluster.operator(tmp_path / "audit.jsonl")
    with pytest.raises(PlanFailed, match=r"127.0.0.1:37081 stays down"):
        await carried_out(operator, await operator.plan("unsplit", ["node1/big"]))
    assert cluster.states()["127.0.0.1:37081"] is True


async def test_what_does_not_stop_keeps_its_file(tmp_path: Path) -> None:
    cluster = Cards.one()
    cluster.failing = {"llama-server-gpu1.service"}
    cluster.refusing = {("stop", "llama-server-gpu0.service")}
    operator = cluster.operator(tmp_path / "audit.jsonl")
    with pytest.raises(PlanFailed, match="NOT undone, start node1/gpu0"):
        await carried_out(operator, await operator.plan("unsplit", ["node1/big"]))
    assert "llama-server-gpu0.service" in cluster.units()
    assert "llama-server-gpu1.service" not in cluster.units()


async def test_the_new_ones_stay_where_their_lines_cannot_be_taken_away(tmp_path: Path) -> None:
    cluster = Cards.one()
    cluster.workers["node1/big"].busy = 1
    operator = cluster.operator(tmp_path / "audit.jsonl")
    plan = await operator.plan("unsplit", ["node1/big"], timeout_seconds=0.3)

    async def nginx_fails_once_they_are_in() -> None:
        async for result in operator.execute(plan):
            if result.step.kind == "membership" and result.state == "done":
                cluster.transaction_fails = ("test", "emerg")

    with pytest.raises(PlanFailed, match="NOT undone, put node1/gpu0"):
        await nginx_fails_once_they_are_in()
    assert cluster.states()["127.0.0.1:37084"] is False
    assert cluster.workers["node1/gpu0"].active == cluster.workers["node1/big"].active == "active"
    assert "llama-server-gpu0.service" in cluster.units()


async def test_a_write_cut_off_after_it_is_taken_back(tmp_path: Path) -> None:
    cluster = Cards.one()
    units = cluster.units()
    operator = cluster.operator(tmp_path / "audit.jsonl")
    plan = await operator.plan("unsplit", ["node1/big"])
    running = asyncio.ensure_future(carried_out(operator, plan))
    cluster.linked = lambda: running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert cluster.units() == units


async def test_a_write_cut_off_leaves_nothing_beside_the_unit(tmp_path: Path) -> None:
    cluster = Cards.one()
    operator = cluster.operator(tmp_path / "audit.jsonl")
    plan = await operator.plan("unsplit", ["node1/big"])

    def cut() -> None:
        cluster.cuts, cluster.linked = 1, lambda: None

    cluster.linked = cut
    await carried_out(operator, plan)
    assert [name for name in cluster.units() if name.startswith(".")] == []


async def killed_after(
    tmp_path: Path, title: str, free: int = 6 * GIB, balancer: bool = True
) -> tuple[Cards, ClusterOperator]:
    """An unsplit, killed once the step called so was done; without room where `free` is little."""
    cluster = Cards.one()
    cluster.free, cluster.balancer = free, balancer
    operator = cluster.operator(tmp_path / "audit.jsonl")
    running = operator.execute(await operator.plan("unsplit", ["node1/big"]))
    async for result in running:
        if result.step.title == title and result.state == "done":
            break
    # What it left is as it is now, and its records say who it was.
    files, workers = dict(cluster.files), {n: copy(w) for n, w in cluster.workers.items()}
    begun = [dict(one) for one in cluster.begun]
    await running.aclose()
    assert cluster.begun == [], "what was put back is over"
    cluster.files, cluster.workers = files, workers
    cluster.begun = [{**one, "over": True, "who": "ann", "minutes": 3} for one in begun]
    if b"37081 weight=2 down" in files[CONF]:
        plan = begun[0]["plan"]
        left = LeftDrained("llama_cluster", "127.0.0.1:37081", plan, "ann", "unsplit node1/big", 3)
        cluster.left = (left,)
    return cluster, operator


@pytest.mark.parametrize("foreign", ["unknown", "theirs", "draining"])
async def test_recover_stops_nothing_but_what_llamatop_made_and_nobody_is_sent_to(
    tmp_path: Path, foreign: str
) -> None:
    cluster, operator = await killed_after(tmp_path, "start node1/gpu0")
    other = cluster.workers["node1/gpu0"]
    path = f"{UNITS}/{other.unit}"
    if foreign == "unknown":
        other.certain = False
    elif foreign == "theirs":
        cluster.files[path] += b"# mine now\n"
    else:
        other.busy = 1
        cluster.files[CONF] = cluster.files[CONF].replace(
            b"}", b"server %s down; }" % (other.member or "").encode()
        )
    plan = await operator.plan("recover", [])
    assert outline(plan) == []
    assert "node1/big stays as it is: node1/gpu0 runs" in " ".join(plan.stays)


async def test_what_was_started_last_is_seen_before_it_is_judged(tmp_path: Path) -> None:
    """The figures at hand are of before the start: its file would go from under it."""
    cluster, operator = await killed_after(tmp_path, "start node1/gpu0")
    gpu0 = cluster.workers["node1/gpu0"]
    gpu0.active, gpu0.enabled = "inactive", "disabled"
    cluster.frozen = cluster.snapshot()
    gpu0.active, gpu0.enabled = "active", "enabled"
    cluster.looked = lambda: setattr(cluster, "frozen", None)
    assert outline(await operator.plan("recover", []))[:2] == [
        "stop node1/gpu0",
        "disable node1/gpu0",
    ]


async def test_the_file_of_what_runs_is_not_taken_away(tmp_path: Path) -> None:
    cluster, operator = await killed_after(tmp_path, "start node1/gpu0")
    gpu0 = cluster.workers["node1/gpu0"]
    gpu0.active, gpu0.sub, gpu0.enabled = "inactive", "dead", "disabled"
    plan = await operator.plan("recover", [])
    cluster.during_systemctl = lambda: setattr(gpu0, "active", "active")
    with pytest.raises(PlanFailed, match=r"gpu0\.service runs, so its file"):
        await carried_out(operator, plan)
    assert gpu0.unit in cluster.units()


@pytest.mark.parametrize("free", [20 * GIB, 6 * GIB])
async def test_recover_is_whole_wherever_the_plan_was_killed(tmp_path: Path, free: int) -> None:
    at_all = Cards.one()
    at_all.free = free
    titles = outline(await at_all.operator(tmp_path / "a").plan("unsplit", ["node1/big"]))
    olds = at_all.units()
    ends = []
    for title in titles:
        cluster, operator = await killed_after(tmp_path, title, free)
        if not cluster.begun:
            continue
        with pytest.raises(Refused, match=r"by ann, .* was cut off: llamatop recover first"):
            await operator.plan("unsplit", ["node1/big"])
        plan = await operator.plan("recover", [])
        assert plan.stays == ()
        await carried_out(operator, plan)
        assert cluster.begun == []
        big = cluster.workers["node1/big"]
        if cluster.files[CONF] == UPSTREAM:
            assert cluster.units() == olds, title
            assert (big.active, big.enabled, big.health) == ("active", "enabled", "ok")
            ends.append("old")
        else:
            assert cluster.states()["127.0.0.1:37081"]
            assert (big.active, big.enabled) == ("inactive", "disabled")
            assert {w.active for w in cluster.workers.values()} == {"active", "inactive"}
            ends.append("new")
        cluster.left = ()
        again = await operator.plan("recover", [])
        assert (again.steps, again.stays) == ((), ())
    assert ends[0] == "old"
    assert len(ends) >= len(titles) - 1
    assert free < 10 * GIB or ends[-1] == "new"


async def test_a_second_operator_is_kept_from_the_same_workers(tmp_path: Path) -> None:
    cluster = Cards.one()
    operator = cluster.operator(tmp_path / "audit.jsonl")
    late = await operator.plan("unsplit", ["node1/big"])
    running = operator.execute(late)
    async for result in running:
        if result.step.verb == "start":
            with pytest.raises(Refused, match=r"unsplit node1/big by .*has not ended"):
                await operator.plan("unsplit", ["node1/big"])
            recover = await operator.plan("recover", [])
            assert (recover.steps, recover.stays) == ((), ())
            assert re.search("unsplit node1/big by .*has not ended", recover.text())
            # One who had made the plan before comes too late as well.
            with pytest.raises(PlanFailed, match="locked by ann; nothing was done") as failed:
                await carried_out(operator, late)
            assert failed.value.exit_code == Refused.exit_code
            assert [one["plan"] for one in cluster.begun] != []
            break
    await running.aclose()


async def test_several_are_unsplit_one_after_another_each_whole(tmp_path: Path) -> None:
    cluster = two_bigs()
    operator = cluster.operator(tmp_path / "audit.jsonl")
    plan = await operator.plan("unsplit", ["node1/b*"])
    assert plan.batches == 2
    titles = outline(plan)
    assert titles.index("disable node1/big") < titles.index(
        f"write {UNITS}/llama-server-gpu2.service"
    )
    news = [unit.unit for one in plan.reshapings for unit in one.news]
    assert news == [f"llama-server-gpu{card}.service" for card in range(4)]
    await carried_out(operator, plan)
    states = cluster.states()
    assert [port for port, down in states.items() if down] == ["127.0.0.1:37081", "127.0.0.1:37082"]
    assert len(states) == 6


async def test_where_the_second_fails_the_first_stays_whole(tmp_path: Path) -> None:
    cluster = two_bigs()
    cluster.failing = {"llama-server-gpu3.service"}
    operator = cluster.operator(tmp_path / "audit.jsonl")
    with pytest.raises(PlanFailed, match=r"it is failed.*undone: remove"):
        await carried_out(operator, await operator.plan("unsplit", ["node1/big", "node1/bit"]))
    assert cluster.states() == {
        "127.0.0.1:37081": True,
        "127.0.0.1:37084": False,
        "127.0.0.1:37085": False,
        "127.0.0.1:37082": False,
    }
    assert cluster.workers["node1/big"].active == "inactive"
    assert cluster.workers["node1/bit"].active == cluster.workers["node1/gpu1"].active == "active"
    assert "node1/gpu2" not in cluster.workers
    assert cluster.begun == []


def two_bigs() -> Cards:
    """`big` and `bit`, each over two cards of four."""
    cluster = Cards.one()
    cluster.cards = 4
    del cluster.workers["node1/gpu2"]
    del cluster.files[f"{UNITS}/llama-server-gpu2.service"]
    text = BIG.replace("0,1", "2,3").replace("37081", "37082")
    cluster.files[f"{UNITS}/llama-server-bit.service"] = text.encode()
    cluster.workers["node1/bit"] = FakeWorker("llama-server-bit.service", "127.0.0.1:37082", pid=13)
    return cluster


@pytest.mark.parametrize(
    "written",
    [
        "--api-key \\\n  supersecret",
        "--api-key alpha,supersecret",
        '"--api-key" "supersecret"',
        "--hf-token -supersecret",
        "--api-key=/super/secret",
    ],
)
async def test_a_key_is_shown_nowhere(tmp_path: Path, written: str) -> None:
    cluster = Cards.one()
    path = f"{UNITS}/llama-server-big.service"
    cluster.files[path] = BIG.replace("--api-key geheim", written).encode()
    operator = cluster.operator(tmp_path / "audit.jsonl")
    plan = await operator.plan("unsplit", ["node1/big"])
    await carried_out(operator, plan)
    audit = (tmp_path / "audit.jsonl").read_text()
    told = plan.text() + str(plan_record(plan)) + audit
    assert "CUDA_VISIBLE_DEVICES=0" in plan.text()
    assert not re.search("supersecret|super/secret|alpha", told)
    assert written in cluster.text("llama-server-gpu1.service")


async def test_the_fragment_allows_to_take_away_what_was_begun(tmp_path: Path) -> None:
    cluster, _ = await killed_after(tmp_path, "start node1/gpu0")
    source, fleet = FakeSource(cluster), CardsFleet(cluster)
    needed = await sudoers.needs(source.latest, fleet, "node1", write_units=True)
    path = f"{UNITS}/llama-server-gpu1.service"
    assert {*unit_files.removing(path)} <= {*needed.commands}
    without = await sudoers.needs(source.latest, fleet, "node1")
    assert not any(path in command.argv for command in without.commands)


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        ("2026-11-21T02:00:00+0000 n llama-server[7]: error: no such flag\n", "no such flag"),
        ("2026-11-21T02:00:00+0000 n systemd[1]: Started it.\n", "status 1; to read its journal"),
        ("", r"status 1.*usermod -aG systemd-journal"),
    ],
)
async def test_the_last_words_of_a_unit_whose_journal_is_not_for_everybody(
    tmp_path: Path, printed: str, told: str
) -> None:
    cluster = Cards.one()
    cluster.root, cluster.failing = False, {"llama-server-gpu0.service"}
    cluster.journal = printed
    operator = cluster.operator(tmp_path / "audit.jsonl")
    with pytest.raises(PlanFailed, match=told):
        await carried_out(operator, await operator.plan("unsplit", ["node1/big"]))
