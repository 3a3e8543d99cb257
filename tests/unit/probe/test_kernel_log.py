"""XIDs as the journal tells them, where /dev/kmsg is closed."""

from __future__ import annotations

from typing import Any

import pytest

from llamatop.probe import kernel_log
from llamatop.probe.child import Ended

LINE = (
    "[{}] node1 kernel: NVRM: Xid (PCI:0000:03:00): 79, pid='<unknown>', "
    "name=<unknown>, GPU has fallen off the bus.\n"
)


class Asked:
    """Stands in for a journalctl that has ended already; `argv` is what it was asked."""

    argv: list[str]

    def __init__(self, ended: Ended) -> None:
        self._ended = ended

    def __call__(self, loop: Any, argv: list[str], limit: float, done: Any) -> None:
        self.argv = argv
        done(self._ended)


def told(monkeypatch: pytest.MonkeyPatch, ended: Ended) -> Any:
    monkeypatch.setattr(kernel_log, "_open", lambda: None)
    monkeypatch.setattr(kernel_log, "_journal_is_open", lambda: True)
    monkeypatch.setattr(kernel_log, "Child", Asked(ended))
    return kernel_log.KernelLog(None).sample()  # type: ignore[arg-type]


def test_a_line_of_the_journal_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    output = LINE.format("90061.250000") + LINE.format("   12.500000")
    assert told(monkeypatch, Ended(0, output.encode(), None, 0.1)) == [
        {"pci_bus_id": "0000:03:00", "code": 79, "at_seconds": 90061.2, "count": 2}
    ]


def test_a_line_without_a_time_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    output = LINE.partition("] ")[2].encode()
    (xid,) = told(monkeypatch, Ended(0, output, None, 0.1))
    assert xid["at_seconds"] is None


@pytest.mark.parametrize(
    ("complaint", "known"),
    [(b"", []), (b"Failed to add match: Invalid argument\n", None)],
)
def test_a_journal_without_a_match_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, complaint: bytes, known: Any
) -> None:
    ended = Ended(1, b"", "journalctl ended with status 1", 0.1, complaint=complaint)
    assert told(monkeypatch, ended) == known


def test_the_journal_is_not_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(Ended(1, b"", "nothing", 0.1))
    monkeypatch.setattr(kernel_log, "_open", lambda: None)
    monkeypatch.setattr(kernel_log, "_journal_is_open", lambda: True)
    monkeypatch.setattr(kernel_log, "Child", asked)
    kernel_log.KernelLog(None).sample()  # type: ignore[arg-type]
    assert "--since=-1d" in asked.argv
