"""Findings as news: told when one has stayed for a while, and when it has been gone for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct

from .finding import Finding

APPEAR_LOOKS = 3
CLEAR_LOOKS = 5
# What comes again before it was gone for so long flaps.
FLAP_LOOKS = 300
# What is judged of a card at work alone, or of slots all taken, comes and goes with the load.
OF_LOAD = (
    "gpu-pcie-slow",
    "gpu-throttled",
    "gpu-busy-unowned",
    "gpu-idle-queued",
    "llama-server-more-slots",
)
OF_LOAD_LOOKS = 300


class Alarm(Struct, frozen=True):
    """A finding that has come (`raised`) or gone."""

    raised: bool
    finding: Finding


class _Known(Struct):
    """`times` counts how often it was raised without being gone for long between."""

    finding: Finding
    seen: int = 0
    missed: int = 0
    raised: bool = False
    times: int = 0


class Alarms:
    """Remembers the findings of the last looks by id and place; remarks (info) are no news.

    One that flaps has to be gone twice as long with each time until that is told, up to
    FLAP_LOOKS: it stays raised rather than being told again and again.
    """

    def __init__(self, appear: int = APPEAR_LOOKS, clear: int = CLEAR_LOOKS) -> None:
        self._appear = appear
        self._clear = clear
        self._known: dict[tuple[str, str], _Known] = {}

    def look(
        self, findings: Iterable[Finding], unknown: Callable[[str], bool] = lambda place: False
    ) -> tuple[Alarm, ...]:
        """What is news by these findings; nothing is over at a place that is `unknown` now."""
        news = []
        now = {(one.id, one.place): one for one in findings if one.severity != "info"}
        for key, finding in now.items():
            known = self._known.setdefault(key, _Known(finding))
            known.finding, known.seen, known.missed = finding, known.seen + 1, 0
            if known.seen >= self._appear and not known.raised:
                known.raised, known.times = True, known.times + 1
                news.append(Alarm(True, finding))
        for key in [key for key in self._known if key not in now]:
            known = self._known[key]
            if unknown(known.finding.place):
                continue
            known.seen, known.missed = 0, known.missed + 1
            if known.raised and known.missed >= self._patience(key[0], known):
                known.raised = False
                news.append(Alarm(False, known.finding))
            if not known.raised and (not known.times or known.missed >= FLAP_LOOKS):
                del self._known[key]
        return tuple(news)

    def _patience(self, rule: str, known: _Known) -> int:
        """For how many looks it has to be gone until that is told."""
        least = OF_LOAD_LOOKS if rule in OF_LOAD else self._clear
        return max(least, min(FLAP_LOOKS, self._clear << min(known.times - 1, 10)))
