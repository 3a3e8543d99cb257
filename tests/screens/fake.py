"""A source and an operator that do what the test says; `python -m tests.screens.fake` runs them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from msgspec.structs import replace

from llamatop.errors import LlamatopError, NodeError, PlanFailed, Refused
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.declared import Cluster
from llamatop.model.plan import Action, Command, MembershipEdit, Plan, Step, StepResult
from llamatop.operate.control import Answer, Control
from tests.screens.clusters import wave, well

DIFF = """\
--- /etc/nginx/conf.d/llama.conf
+++ /etc/nginx/conf.d/llama.conf
@@ -3,4 +3,4 @@
     least_conn;
-    server 127.0.0.1:37080 max_fails=3;
+    server 127.0.0.1:37080 max_fails=3 down;
     server 127.0.0.1:37081 max_fails=3;
"""


class FakeHistory:
    """Waves; of a worker that is not known, nothing."""

    def __init__(self) -> None:
        self.ticks = 120

    def _values(self, place: int, low: float, high: float) -> list[float | None]:
        start = self.ticks - 120
        return [max(0.0, wave(tick, place, low, high)) for tick in range(start, self.ticks)]

    def generation(self, worker: str) -> Sequence[float | None]:
        return self._values(len(worker), 20, 60)

    def prompt(self, worker: str) -> Sequence[float | None]:
        return self._values(3, -300, 500)

    def slots_busy(self, worker: str) -> Sequence[float | None]:
        return self._values(2, 0, 2)

    def gpu_utilization(self, node: str, uuid: str) -> Sequence[float | None]:
        if node == "node2":
            return self._values(int(uuid[-1]), 46, 54)
        return self._values(1, 88, 100)

    def total_generation(self) -> Sequence[float | None]:
        return self._values(5, 90, 140)


class FakeSource:
    """Shows `snapshot`; `push` sends the next one."""

    def __init__(self, snapshot: ClusterSnapshot) -> None:
        self.latest = snapshot
        self.history = FakeHistory()
        self.entries = [
            "2026-11-21T02:13:41+0000 node1 llama-server[159]:"
            " 0.09.070.426 I slot launch_slot_: id  0 | task 441",
            "2026-11-21T02:13:42+0000 node1 llama-server[159]: prompt processing, n_tokens = 640",
            "2026-11-21T02:13:55+0000 node1 llama-server[159]:"
            " 0.23.100.912 W slot print_timing: id  0 | task 441 |"
            "        eval time =    9412.11 ms /   512 tokens",
            "2026-11-21T02:13:55+0000 node1 llama-server[159]: slot release: id 0 | task 441",
        ]
        self.journal_fault: LlamatopError | None = None
        self.shell: list[str] | LlamatopError = ["true"]
        self.reading: list[str] = []
        self.queue: asyncio.Queue[ClusterSnapshot] = asyncio.Queue()

    @property
    def cluster(self) -> Cluster:
        return self.latest.cluster

    def push(self, snapshot: ClusterSnapshot) -> None:
        self.latest = snapshot
        self.queue.put_nowait(snapshot)

    async def snapshots(self) -> AsyncIterator[ClusterSnapshot]:
        while True:
            yield await self.queue.get()

    async def journal(
        self, worker: str, lines: int = 200, follow: bool = True
    ) -> AsyncIterator[str]:
        self.reading.append(worker)
        for entry in self.entries:
            yield entry
        if self.journal_fault is not None:
            raise self.journal_fault
        await asyncio.Event().wait()

    def shell_argv(self, node: str) -> list[str]:
        if isinstance(self.shell, LlamatopError):
            raise self.shell
        return self.shell


def drain_plan(action: Action, targets: Sequence[str], **changes: object) -> Plan:
    """A plan as the operator makes it: out of the upstream, wait, stop, start, wait, in again."""
    name = targets[0] if targets else "node1/gpu0"
    node, _, short = name.partition("/")
    unit = f"llama-server-{short}.service"
    edit = MembershipEdit(
        "/etc/nginx/conf.d/llama.conf", "0" * 64, "llama_cluster", ("127.0.0.1:37080",), True
    )
    out = Step(
        "membership",
        "node1",
        "mark 127.0.0.1:37080 down in llama_cluster",
        (
            Command(("sudo", "-n", "nginx", "-t")),
            Command(("sudo", "-n", "systemctl", "reload", "nginx.service")),
        ),
        DIFF,
        name,
        None,
        (edit,),
    )
    wait = Step("wait-drained", "node1", f"wait until {short} serves nothing", worker=name)
    steps: dict[str, tuple[Step, ...]] = {
        "drain": (out, wait),
        "stop": (
            out,
            wait,
            Step(
                "systemctl",
                node,
                f"stop {unit}",
                (Command(("sudo", "-n", "systemctl", "stop", unit)),),
                worker=name,
                unit=unit,
            ),
        ),
    }
    other = Step(
        "systemctl",
        node,
        f"{action} {unit}",
        (Command(("sudo", "-n", "systemctl", action, unit)),),
        worker=name,
        unit=unit,
    )
    if action == "roll":
        steps["roll"] = tuple(
            replace(step, batch=batch, worker=f"node1/gpu{batch - 1}")
            for batch in (1, 2, 3)
            for step in (out, wait, other)
        )
    plan = Plan(action, tuple(targets), steps.get(action, (other,)))
    return replace(plan, **changes)  # type: ignore[arg-type]  # names come from the tests


class FakeOperator:
    """Makes `drain_plan`s and runs them; `gates` hold a step until a test lets it go."""

    def __init__(self) -> None:
        self.asked: list[tuple[Action, tuple[str, ...], bool, bool]] = []
        self.changes: dict[str, object] = {}
        self.refuse: str | None = None
        self.fail: int | None = None
        self.late: int | None = None
        self.answers: list[Answer] = []
        self.at_once = 1
        self.control = Control()
        self.gates: dict[int, asyncio.Event] = {}
        self.executed: list[Plan] = []
        self.rolled_back = False
        self.pace: Callable[[], float] = lambda: 0.0

    async def plan(
        self,
        action: Action,
        targets: Sequence[str],
        *,
        now: bool = False,
        force: bool = False,
        timeout_seconds: float | None = None,
        at_once: int = 1,
        keep: int = 1,
    ) -> Plan:
        self.asked.append((action, tuple(targets), now, force))
        self.at_once = at_once
        if self.refuse and not force:
            raise Refused(self.refuse)
        return drain_plan(action, targets, **self.changes)

    async def execute(
        self, plan: Plan, control: Control | None = None
    ) -> AsyncIterator[StepResult]:
        self.executed.append(plan)
        self.control = control or Control()
        batch = 0
        try:
            for number, step in enumerate(plan.steps, 1):
                if batch and step.batch != batch:
                    await self.control.between()
                batch = step.batch
                yield StepResult(step, number, "running", 0.0, "2 requests in flight")
                if number in self.gates:
                    await self.gates[number].wait()
                if number == self.late:
                    await self._ask(self.control)
                await asyncio.sleep(self.pace())
                if number == self.fail:
                    error = "`sudo -n systemctl stop` ended with status 1: a password is required"
                    yield StepResult(step, number, "failed", 1.5, error=error)
                    yield StepResult(plan.steps[0], 1, "undone", 0.4)
                    raise PlanFailed("step 3 failed; the upstream is as it was before")
                yield StepResult(step, number, "done", 1.5)
        except asyncio.CancelledError:
            self.rolled_back = True
            raise

    async def _ask(self, control: Control) -> None:
        while (answer := control.late()) is None:
            await control.answered()
        self.answers.append(answer)
        if answer == "undo":
            raise PlanFailed("not done after 300 s; undone: the upstream is as it was before")


def main() -> None:
    """Run the app over a fake that moves; arguments: the cluster's kind and the theme."""
    import sys

    from llamatop.app.app import LlamatopApp
    from tests.screens import clusters

    kind = sys.argv[1] if len(sys.argv) > 1 else "well"
    make = {
        "well": well,
        "ill": clusters.ill,
        "frail": clusters.frail,
        "hostile": clusters.hostile,
        "fleet": lambda tick: clusters.fleet(16, 8, tick),
        "huge": lambda tick: clusters.fleet(64, 8, tick),
        "ill-fleet": lambda tick: clusters.ill_fleet(16, 8, tick),
        "ill-huge": lambda tick: clusters.ill_fleet(64, 8, tick),
    }[kind]
    source = FakeSource(make(40))
    operator = FakeOperator()
    operator.pace = lambda: 2.5
    source.shell = ["sh"]

    class Runner(LlamatopApp):
        def on_ready(self) -> None:
            self.set_interval(1.0, self.push)

        def push(self) -> None:
            source.history.ticks += 1
            source.push(make(source.latest.tick + 1))

    if kind == "broken-journal":
        source.journal_fault = NodeError("node1", "the journal may not be read", "adm group")
    Runner(source, operator, theme=sys.argv[2] if len(sys.argv) > 2 else None).run()


if __name__ == "__main__":
    main()
