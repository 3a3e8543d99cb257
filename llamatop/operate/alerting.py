"""The doctor's findings told as they come and go: events, the bell, a command, a webhook."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

from llamatop.advise.alarms import Alarm, Alarms
from llamatop.advise.dead import HEALTH, silent
from llamatop.advise.doctor import RULES, Places, judge
from llamatop.model.cluster import ClusterSnapshot, Event
from llamatop.model.declared import Alerts
from llamatop.transport.delivery import to_command, to_webhook

from .live import LiveSource

# Judging may cost a fiftieth of a core; a small cluster is judged every tick.
_SHARE = 0.02
_MOST_WAITING = 100


class Alerting:
    """Judges the snapshots as they come; `bell` is rung for an error.

    What a node that is not read would show is not over, nor anything while a rule fails.
    Deliveries wait in a short queue of their own and hold up nothing; that one fails is told once,
    until one succeeds.
    """

    def __init__(
        self, source: LiveSource, alerts: Alerts, bell: Callable[[], None] = lambda: None
    ) -> None:
        self._source = source
        self._alerts = alerts
        self._bell = bell
        self._alarms = Alarms()
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(_MOST_WAITING)
        self._failed: set[str] = set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._deliver())
            tick, due = -1, 0.0
            async for snapshot in self._source.snapshots():
                if snapshot.tick == tick or time.monotonic() < due:
                    continue
                tick = snapshot.tick
                news, cost = await asyncio.to_thread(self._look, snapshot)
                due = time.monotonic() + cost / _SHARE
                for alarm in news:
                    self._tell(snapshot, alarm)

    def _look(self, snapshot: ClusterSnapshot) -> tuple[tuple[Alarm, ...], float]:
        """What is news, and the processor time that finding it took."""
        begun = time.thread_time()
        places = Places(snapshot)
        away = silent(snapshot)
        told = judge(snapshot, (*RULES, *HEALTH))
        # What a rule that failed would find is unknown.
        news = self._alarms.look(
            told.findings, lambda place: bool(told.faults) or places.node(place) in away
        )
        return news, time.thread_time() - begun

    def _tell(self, snapshot: ClusterSnapshot, alarm: Alarm) -> None:
        found, places, at = alarm.finding, Places(snapshot), datetime.now(UTC)
        node, worker = places.node(found.place), places.worker(found.place)
        where = "" if found.place in (node, worker) else f"{found.place}: "
        text = f"{where}{found.evidence}" if alarm.raised else f"{where}{found.id} is over"
        severity = found.severity if alarm.raised else "info"
        self._source.announce(Event(at, severity, text, node, worker))
        if alarm.raised and found.severity == "error":
            self._bell()
        told = {
            "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "cluster": snapshot.cluster.name,
            "state": "raised" if alarm.raised else "cleared",
            "id": found.id,
            "severity": found.severity,
            "place": found.place,
            "evidence": found.evidence,
            "why": found.why,
            "mend": found.mend,
        }
        try:
            self._waiting.put_nowait(json.dumps(told).encode())
        except asyncio.QueueFull:
            self._complain("queue", "alerts come faster than they can be sent on: some are lost")

    async def _deliver(self) -> None:
        while True:
            body = await self._waiting.get()
            if self._alerts.command:
                fault = await to_command(self._alerts.command, body + b"\n")
                self._complain("command", fault)
            if self._alerts.webhook is not None:
                self._complain("webhook", await to_webhook(self._alerts.webhook, body))
            if not self._waiting.full():
                self._failed.discard("queue")

    def _complain(self, what: str, fault: str | None) -> None:
        """Tell of a fault once, until it is over."""
        if fault is None:
            self._failed.discard(what)
        elif what not in self._failed:
            self._failed.add(what)
            text = f"alerts are not sent on: {fault}"
            self._source.announce(Event(datetime.now(UTC), "warning", text))
