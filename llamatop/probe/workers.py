"""The workers of the node, each with its own connection: one that hangs ages alone."""

from __future__ import annotations

import time

from llamatop.engines import ENGINES, glances, llama_server, ollama, slots, vllm

from . import confines, launch, launch_memory, procfs, starts
from .conversation import Talk, address
from .glances import Glances
from .models import mapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Dict, List

    from .models import Place
    from .processes import Processes
    from .reactor import Reactor
    from .units import Units

_RUNNING = ("active", "activating", "reloading", "deactivating")
# ticks of processor time a second that a llama-server with nothing to do stays under
_IDLE_TICKS = 3
_CONFINED_EVERY = 30.0
# how long a vLLM may take to load its model before its silence is a fault
YOUNG_SECONDS = 1200.0


class Child:
    """A llama-server that an Ollama spawned; `start` tells it from another with its number."""

    __slots__ = ("gpu_layers", "start", "talk")

    def __init__(self, start: int, gpu_layers: str | None, talk: Talk) -> None:
        self.start = start
        self.gpu_layers = gpu_layers
        self.talk = talk


class Worker:
    """One unit's worker: how it was started, and its talk with the endpoint."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.start = starts.Start()
        self.talk: Talk | None = None
        self.children: Dict[int, Child] = {}
        self.loaded: List[str] = []
        self.worked: int | None = None
        self.confines: Dict[str, Any] = {}
        self.confined_at = 0.0
        # of a model that it fetched itself; "" where nobody may see which it is
        self.file: str | None = None

    def close(self) -> None:
        for talk in self.talks():
            talk.close()
        self.talk = None
        self.children = {}

    def talks(self) -> List[Talk]:
        """With its own endpoint, and with those of the processes that it spawned."""
        children = [child.talk for child in self.children.values()]
        return children if self.talk is None else [self.talk, *children]


class Workers:
    """Keeps the workers in step with the units and asks each once a tick."""

    def __init__(
        self, loop: Reactor, units: Units, processes: Processes, silent: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._units = units
        self._processes = processes
        self._silent = silent
        self._glances = Glances()
        self._declared: Dict[str, Dict[str, Any]] = {}
        self._workers: Dict[str, Worker] = {}

    def configure(self, declared: Dict[str, Dict[str, Any]]) -> None:
        """What the operator knows better: `url` and `key` by unit."""
        self._declared = {
            name if name.endswith(".service") else name + ".service": given
            for name, given in declared.items()
        }
        self.units_changed()

    def units_changed(self) -> None:
        """Read again how each worker was started; a new process is a new talk."""
        kinds = self._units.kinds
        for unit in [unit for unit in self._workers if kinds.get(unit) != "worker"]:
            self._workers.pop(unit).close()
        for unit, kind in kinds.items():
            if kind == "worker":
                worker = self._workers.setdefault(unit, Worker(unit))
                self._restart(worker, self._units.shown[unit])

    def _restart(self, worker: Worker, shown: Dict[str, str]) -> None:
        before = worker.start
        worker.start = start = starts.of(worker.unit, shown, self._processes)
        declared = self._declared.get(worker.unit, {})
        running = shown.get("ActiveState") in _RUNNING and bool(start.pids)
        self._confine(worker, (before.pid, before.start) == (start.pid, start.start))
        if not running or start.engine is None or start.engine not in ENGINES:
            worker.close()
            return
        key = declared.get("key") or starts.key_of(start.secret)
        where = address(start.engine, declared.get("url"), start.launch, start.secret)
        same = (before.pid, before.start) == (start.pid, start.start)
        worker.file = worker.file if same else None
        if worker.talk is None or not same or not worker.talk.same(where, key):
            worker.close()
            worker.talk = Talk(self._loop, start.engine, where, key)
            worker.talk.memory["may_sleep"] = start.secret.get("sleep") not in (None, "-1")
        if start.engine == ollama.NAME:
            self._children(worker)

    def _confine(self, worker: Worker, same: bool) -> None:
        now = time.monotonic()
        if same and now - worker.confined_at < _CONFINED_EVERY:
            return
        start = worker.start
        worker.confined_at = now
        worker.confines = confines.read(start.pid, start.launch.get("model")) if start.pid else {}

    def _children(self, worker: Worker) -> None:
        """The llama-servers that an Ollama spawned, asked for their slots on their own ports."""
        found = {}
        for pid in worker.start.pids:
            process = self._processes.found.get(pid)
            engine = process.engine if process is not None else None
            if process is None or engine is None or engine.engine != "llama-server":
                continue
            told = launch.describe(engine, procfs.environment(pid) or {})
            # without a model it is there for a moment only, to list the cards
            if told.get("port") and told.get("model"):
                found[pid] = (process.start, told)
        for pid in list(worker.children):
            if pid not in found or worker.children[pid].start != found[pid][0]:
                worker.children.pop(pid).talk.close()
        for pid, (start, told) in found.items():
            if pid not in worker.children:
                where = address("llama-server", None, {"port": told["port"]}, {})
                talk = Talk(self._loop, "llama-server", where, told.get("_key"))
                talk.memory["may_sleep"] = told.get("_sleep") not in (None, "-1")
                talk.memory["describe"] = True
                worker.children[pid] = Child(start, told.get("gpu_layers"), talk)

    def moved(self) -> bool:
        """Whether an Ollama has loaded or dropped a model since this was asked before."""
        moved = False
        for worker in self._workers.values():
            if worker.talk is not None and worker.start.engine == ollama.NAME:
                loaded = sorted(worker.talk.sample.get("loaded") or ())
                moved = moved or loaded != worker.loaded
                worker.loaded = loaded
        return moved

    @property
    def settled(self) -> bool:
        """Whether every worker has answered, or is known to be slow."""
        return all(talk.settled for talk in self._talks())

    def _talks(self) -> List[Talk]:
        return [talk for worker in self._workers.values() for talk in worker.talks()]

    def start(self, now: float, well: bool = True) -> None:
        """Ask every worker that owes no answer, or only those that are not `well`."""
        for worker in self._workers.values() if well else ():
            if worker.talk is not None and worker.talk.memory["may_sleep"]:
                worker.talk.memory["active"] = self._active(worker)
        for worker in self._workers.values():
            if worker.talk is not None and worker.start.engine == vllm.NAME:
                worker.talk.memory["young"] = _young(worker)
        for talk in self._talks():
            if (well or talk.sample.get("health") != "ok") and talk.start(now):
                self._silent()

    def plan(self, now: float, interval: float) -> None:
        """Arrange to look at fast workers again before the next tick."""
        talks = []
        for worker in self._workers.values():
            # the glances of several children would not be of one moment
            lone = len(worker.children) == 1
            talks += worker.talks() if lone else worker.talks()[:1]
        self._glances.plan(talks, now, interval)

    def _active(self, worker: Worker) -> bool | None:
        stat = procfs.stat(worker.start.pid) if worker.start.pid else None
        if stat is None:
            return None
        before, worker.worked = worker.worked, stat[2]
        return None if before is None else stat[2] - before > _IDLE_TICKS

    def sample(self) -> Dict[str, Any]:
        """WorkerSample fields by unit."""
        return {unit: self._sample(worker) for unit, worker in self._workers.items()}

    def _sample(self, worker: Worker) -> Dict[str, Any]:
        start = worker.start
        found: Dict[str, Any] = {"unit": worker.unit, "engine": start.engine}
        if worker.talk is not None:
            found.update(worker.talk.sample)
            own = "%d:%d" % (start.pid, start.start or 0) if start.pid else None
            if start.engine == ollama.NAME:
                found = self._attached(worker, found)
                # its counts come and go with its children
                found["identity"] = own and ",".join(filter(None, [own, found.get("identity")]))
            if "slots" in found:
                if "glances" in found:
                    found["glances"] = glances.rows(found["glances"], found)
                found["slots"] = slots.rows(found["slots"])
            found["url"] = worker.talk.url
            if found.get("identity") is None:
                found["identity"] = own
            found["pids"] = start.pids
        if not found.get("model"):
            # As the worker itself will name it, so that nobody takes it for another model.
            told = start.launch
            found["model"] = told.get("alias") or llama_server.model_name(told.get("model"))
        found["launch"] = start.launch
        if worker.talk is not None and llama_server.projects(worker.talk.memory):
            found["launch"] = launch_memory.projecting(start.launch)
        found["confines"] = worker.confines
        if not found.get("fault"):
            found["fault"] = start.fault or self._missing(worker)
        return found

    def _attached(self, worker: Worker, found: Dict[str, Any]) -> Dict[str, Any]:
        children = []
        for pid, child in worker.children.items():
            sample = {**child.talk.sample, "gpu_layers": child.gpu_layers}
            sample["identity"] = "%d:%d" % (pid, child.start)
            children.append(sample)
        return ollama.attach(found, children)

    def _missing(self, worker: Worker) -> str | None:
        shown = self._units.shown.get(worker.unit, {})
        if shown.get("LoadState") == "not-found":
            return "no such unit on this node; correct its name in the cluster file"
        if worker.start.engine is None and worker.start.pids:
            return "runs none of llama-server, ollama and vllm; take it out of `units`"
        return None

    def models(self) -> Dict[str, Place]:
        """The llama-servers' model files, by what they were started with.

        Of one that llama-server fetches itself only a name is known until it tells the path, or
        its process has the file mapped.
        """
        found: Dict[str, Place] = {}
        for worker in self._workers.values():
            told = worker.start.launch.get("model") or ""
            if worker.start.engine != llama_server.NAME or not told or not told.isprintable():
                continue
            pid = worker.start.pid
            if told[:1] == "/" or (told[-5:].lower() == ".gguf" and "://" not in told):
                path: str | None = told
            else:
                path = self._fetched(worker)
            if path is not None and (pid or told not in found):
                found[told] = (path, pid)
        return found

    def _fetched(self, worker: Worker) -> str | None:
        told = worker.talk and llama_server.model_path(worker.talk.memory)
        if told and told.isprintable():
            worker.file = told
        elif worker.file is None and worker.start.pid and self._loaded(worker):
            worker.file = mapped(worker.start.pid) or ""
        return worker.file or None

    def _loaded(self, worker: Worker) -> bool:
        return worker.talk is not None and worker.talk.sample.get("health") not in (None, "loading")

    def ages(self, now: float, longest: float, since: float) -> Dict[str, float]:
        """Seconds since the last answer of each worker that owes one for longer than a tick.

        Also of each whose last answer had been asked for before `since`.
        """
        found: Dict[str, float] = {}
        for unit, worker in self._workers.items():
            if worker.talk is not None and worker.talk.answered_at is not None:
                age = now - worker.talk.answered_at
                if age > longest or any(talk.asked_at < since for talk in worker.talks()):
                    found[unit] = round(age, 1)
        return found

    def close(self) -> None:
        """Drop every connection."""
        for worker in self._workers.values():
            worker.close()


def _young(worker: Worker) -> bool:
    if worker.talk is None or worker.talk.sample.get("health") == "ok":
        return False
    age = procfs.age(worker.start.start)
    return age is not None and age < YOUNG_SECONDS
