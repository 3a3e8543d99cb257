"""Findings as news: only those that stay, only once, over only when gone for a while."""

from __future__ import annotations

import pytest

from llamatop.advise.alarms import (
    APPEAR_LOOKS,
    CLEAR_LOOKS,
    FLAP_LOOKS,
    OF_LOAD,
    OF_LOAD_LOOKS,
    Alarm,
    Alarms,
)
from llamatop.advise.finding import Finding
from llamatop.model.cluster import Severity
from llamatop.model.rules import IDS


def finding(place: str = "node1", severity: Severity = "error", evidence: str = "x") -> Finding:
    return Finding("tunnel-down", severity, place, evidence, "why", "mend")


ONE = finding()


def looks(alarms: Alarms, number: int, *findings: Finding) -> list[Alarm]:
    return [alarm for _ in range(number) for alarm in alarms.look(findings)]


def test_what_stays_is_told_once_and_what_is_gone_is_told_once() -> None:
    alarms = Alarms()
    assert looks(alarms, APPEAR_LOOKS - 1, ONE) == []
    assert looks(alarms, 20, ONE) == [Alarm(True, ONE)]
    assert looks(alarms, CLEAR_LOOKS - 1) == []
    assert looks(alarms, 20) == [Alarm(False, ONE)]
    assert looks(alarms, APPEAR_LOOKS, ONE) == [Alarm(True, ONE)]


def test_what_comes_and_goes_is_no_news() -> None:
    alarms = Alarms()
    for _ in range(10):
        assert looks(alarms, APPEAR_LOOKS - 1, ONE) == []
        assert looks(alarms, 1) == []
    assert looks(alarms, APPEAR_LOOKS, ONE) == [Alarm(True, ONE)]
    for _ in range(10):
        assert looks(alarms, CLEAR_LOOKS - 1) == []
        assert looks(alarms, 1, ONE) == []


def test_other_values_at_the_same_place_are_the_same_finding() -> None:
    alarms = Alarms()
    told = [alarm for n in range(20) for alarm in alarms.look([finding(evidence=str(n))])]
    assert len(told) == 1
    (over,) = looks(alarms, CLEAR_LOOKS)
    assert over.finding.evidence == "19"
    assert len(looks(alarms, APPEAR_LOOKS, finding("a"), finding("b"))) == 2


def test_remarks_are_no_news() -> None:
    assert looks(Alarms(), 20, finding(severity="info")) == []


def test_at_a_place_that_is_not_read_nothing_is_over() -> None:
    alarms = Alarms()
    looks(alarms, APPEAR_LOOKS, ONE)
    assert [alarms.look((), lambda place: place == "node1") for _ in range(20)] == [()] * 20
    assert looks(alarms, CLEAR_LOOKS) == [Alarm(False, ONE)]


def test_what_is_seen_under_load_alone_is_told_once_however_the_load_comes_and_goes() -> None:
    assert set(OF_LOAD) <= set(IDS)
    alarms, one = Alarms(), Finding("gpu-pcie-slow", "warning", "node1:GPU0", "x", "why", "mend")
    assert looks(alarms, 4, one) == [Alarm(True, one)]
    for _ in range(20):
        assert looks(alarms, 4, one) == []
        assert looks(alarms, 6) == []
    assert looks(alarms, OF_LOAD_LOOKS) == [Alarm(False, one)]


@pytest.mark.parametrize("away", [6, 12, 25, 60])
def test_what_flaps_for_an_hour_is_told_a_few_times(away: int) -> None:
    alarms, told = Alarms(), []
    for _ in range(3600 // (4 + away)):
        told += looks(alarms, 4, ONE) + looks(alarms, away)
    assert 1 < len(told) <= 10
    assert told[-1] == Alarm(True, ONE), "it still flaps"
    assert [alarm.raised for alarm in told] == [True, False] * (len(told) // 2) + [True]


def test_what_was_gone_for_long_begins_anew() -> None:
    alarms = Alarms()
    for _ in range(3):
        assert len(looks(alarms, APPEAR_LOOKS, ONE)) == 1
        assert looks(alarms, CLEAR_LOOKS) == [Alarm(False, ONE)]
        assert looks(alarms, FLAP_LOOKS) == []
