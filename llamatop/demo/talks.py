"""What the workers of a simulated machine answer, as the probe on it would come to know them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from llamatop.engines import llama_server, ollama, slots, vllm
from llamatop.probe import launch
from llamatop.probe.conversation import address
from llamatop.probe.workers import YOUNG_SECONDS

from .asking import Asking
from .other_engines import Ollama
from .tasks import DISK, MEMLOCK_BYTES, Task
from .unit import Unit
from .worker import Worker

if TYPE_CHECKING:
    from .machine import Machine

Document = dict[str, Any]


class _Talk(Struct):
    """With one worker's process, and with the llama-server that an Ollama spawned."""

    task: Task
    own: Asking
    child_task: Task | None = None
    child: Asking | None = None
    gpu_layers: str | None = None

    @property
    def asked_at(self) -> float:
        """When what is known of all of them had been asked."""
        talks = [self.own] if self.child is None else [self.own, self.child]
        return min(talk.asked_at for talk in talks)


class Talks:
    """Those with all workers of one machine; `declared` is what the cluster file says of some."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.declared: dict[str, dict[str, Any]] = {}
        self._talks: dict[str, _Talk] = {}
        self._launched: dict[str, tuple[object, dict[str, Any], dict[str, Any]]] = {}

    def worker(self, name: str, now: float) -> Document:
        """What a line tells of the worker with this unit."""
        unit = self.machine.units.get(name)
        found: Document = {"unit": name, "launch": {}}
        if unit is None:
            found["fault"] = "no such unit on this node; correct its name in the cluster file"
            return found
        task = self.machine.table.tasks.get(unit.main_pid)
        described, secret = self._launch(unit, task)
        found["engine"] = described["engine"]
        found["launch"] = told = {k: v for k, v in described.items() if k != "engine"}
        talk = self._talked(unit, task, described, secret)
        if talk is not None and task is not None:
            found |= self._asked(talk, described["engine"], now)
            found["pids"] = self._family(task.pid)
        if task is not None:
            found["confines"] = self._confines(told)
        if not found.get("model"):
            found["model"] = told.get("alias") or llama_server.model_name(told.get("model"))
        if described["engine"] is None and task is not None and not found.get("fault"):
            found["fault"] = "runs none of llama-server, ollama and vllm; take it out of `units`"
        return found

    def _confines(self, told: Document) -> Document:
        table = self.machine.table
        return {
            "cpus": f"0-{table.cpu_count - 1}",
            "memory_nodes": table.memory_nodes,
            "memlock_bytes": MEMLOCK_BYTES,
            "model_filesystem": DISK if str(told.get("model")).startswith("/") else None,
        }

    def _launch(self, unit: Unit, task: Task | None) -> tuple[Document, Document]:
        """How it was started, and what of that never leaves the node."""
        mark = (unit.argv, task)
        kept = self._launched.get(unit.name)
        if kept is not None and kept[0] == mark:
            return kept[1], kept[2]
        if task is not None:
            process, source = launch.running(list(task.argv)), "process"
            environment = dict(task.environ)
        else:
            process, source = launch.find(list(unit.argv)), "unit"
            environment = dict(setting.split("=", 1) for setting in unit.environment)
        described: Document = {"engine": None}
        secret: Document = {}
        if process is not None:
            told = launch.describe(process, environment)
            described = {k: v for k, v in told.items() if not k.startswith("_")}
            described |= {"engine": process.engine, "source": source, "environment_known": True}
            secret = {k[1:]: v for k, v in told.items() if k.startswith("_")}
            if process.engine in ("llama-server", "vllm"):
                described["api_key"] = bool(secret.get("key") or secret.get("key_file"))
        self._launched[unit.name] = (mark, described, secret)
        return described, secret

    def _talked(
        self, unit: Unit, task: Task | None, described: Document, secret: Document
    ) -> _Talk | None:
        """The talks with its endpoints; a new process is a new talk."""
        kept = self._talks.get(unit.name)
        worker = unit.process
        if task is None or described["engine"] is None or not isinstance(worker, Worker):
            self._talks.pop(unit.name, None)
            return None
        if kept is None or kept.task is not task:
            given = self.declared.get(unit.name, {})
            where = address(described["engine"], given.get("url"), described, secret)
            key = given.get("key") or secret.get("key")
            own = Asking(worker.web, described["engine"], where, key)
            kept = self._talks[unit.name] = _Talk(task, own)
        if isinstance(worker, Ollama) and kept.child_task is not worker.child:
            _with_child(kept, worker)
        return kept

    def _asked(self, talk: _Talk, engine: str, now: float) -> Document:
        """What a tick's questions leave known of a worker."""
        if engine == vllm.NAME:
            young = time.time() - talk.task.started < YOUNG_SECONDS
            talk.own.memory["young"] = young and talk.own.sample.get("health") != "ok"
        talk.own.tick(now)
        found: Document = dict(talk.own.sample)
        own = self._identity(talk.task)
        if engine == ollama.NAME:
            children = []
            if talk.child is not None and talk.child_task is not None:
                talk.child.tick(now)
                child = {**talk.child.sample, "gpu_layers": talk.gpu_layers}
                children = [{**child, "identity": self._identity(talk.child_task)}]
            found = ollama.attach(found, children)
            found["identity"] = ",".join(filter(None, [own, found.get("identity")]))
        if "slots" in found:
            found["slots"] = slots.rows(found["slots"])
        if found.get("identity") is None:
            found["identity"] = own
        return {**found, "url": talk.own.url}

    def _identity(self, task: Task) -> str:
        return f"{task.pid}:{self.machine.table.start_ticks(task)}"

    def _family(self, pid: int) -> list[int]:
        found = [pid]
        for member in found:
            found += [task.pid for task in self.machine.table.children(member)]
        return found

    def age(self, name: str, now: float, since: float, limit: float) -> float | None:
        """Seconds, of an answer that is older than `limit` or had been asked for before `since`."""
        talk = self._talks.get(name)
        if talk is None or talk.own.answered_at is None:
            return None
        age = now - talk.own.answered_at
        late = age > limit or talk.asked_at < since
        return round(max(age, 0.0), 1) if late else None


def _with_child(talk: _Talk, worker: Ollama) -> None:
    """Have the talk be also with the llama-server that this Ollama runs now, if any."""
    talk.child_task, talk.child, web = worker.child, None, worker.child_web
    process = None if worker.child is None else launch.running(list(worker.child.argv))
    if worker.child is None or process is None or web is None:
        return
    told = launch.describe(process, dict(worker.child.environ))
    where = address(process.engine, None, {"port": told["port"]}, {})
    talk.gpu_layers = told.get("gpu_layers")
    talk.child = Asking(web, process.engine, where, told.get("_key"))
    talk.child.memory["describe"] = True
