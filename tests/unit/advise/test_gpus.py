"""Rules about cards: each with a case that fires and near ones that must not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llamatop.advise import gpus, placement, platform, wear
from llamatop.advise.doctor import judge
from llamatop.advise.finding import Rule
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.observed import Xid
from tests.screens import clusters
from tests.unit.advise.boards import found, told, with_card, with_worker

RULES = (*gpus.RULES, *wear.RULES, *placement.RULES, *platform.RULES)
FALLEN = Xid("0000:03:00", 79, at_seconds=99_000.0)

FIRING: list[tuple[Rule, ClusterSnapshot, str, str, str]] = [
    (
        gpus.drivers,
        told(driver_version="535.54.03"),
        "node1",
        "warning",
        "driver 535.54.03, other nodes with Tesla P40 have 550.163.01",
    ),
    (
        gpus.persistence,
        with_card(1, with_card(persistence_mode=False), persistence_mode=False),
        "node1",
        "warning",
        "persistence mode is off on GPU0, GPU1",
    ),
    (
        gpus.power_limits,
        with_card(2, power_limit_watts=180.0),
        "node2:GPU0",
        "warning",
        "180 W (default 250 W), other cards Tesla P40 have 250 W",
    ),
    (gpus.pcie, with_card(pcie_width=4), "node1:GPU0", "warning", "PCIe 3 x4 of 3 x16 at 96 %"),
    (gpus.pcie, with_card(pcie_generation=1), "node1:GPU0", "warning", "PCIe 1 x16 of 3 x16"),
    (
        gpus.throttled,
        with_card(throttle=("software_power_cap", "hardware_thermal_slowdown")),
        "node1:GPU0",
        "warning",
        "slowed down by hardware_thermal_slowdown at",
    ),
    (
        gpus.hot,
        with_card(temperature_celsius=87.0),
        "node1:GPU0",
        "warning",
        "87 °C of 92 °C, where it slows itself down",
    ),
    (
        gpus.hot,
        with_card(temperature_celsius=85.0, temperature_slowdown_celsius=None),
        "node1:GPU0",
        "warning",
        "85 °C",
    ),
    (
        gpus.strangers,
        with_card(1, workers=(), processes={"4242": None}),
        "node1:GPU1",
        "warning",
        "96 % busy with process 4242, of no worker",
    ),
    (
        gpus.idle,
        with_worker(
            0,
            with_card(1, workers=(), utilization_percent=0.0, processes={}),
            queued_seconds=40.0,
            sample={"requests_deferred": 3},
        ),
        "node1:GPU1",
        "warning",
        "0 % busy, no worker on it; 3 requests wait at node1/gpu0",
    ),
    (wear.ecc, with_card(ecc_uncorrected=2), "node1:GPU0", "error", "2 uncorrected ECC errors"),
    (wear.pages, with_card(retired_pages=3), "node1:GPU0", "info", "3 pages of its memory retired"),
    (
        wear.pages,
        with_card(retired_pages=0, retired_pages_pending=True),
        "node1:GPU0",
        "warning",
        "more wait for a reset",
    ),
    (wear.pages, with_card(retired_pages=50), "node1:GPU0", "warning", "50 pages"),
    (
        wear.xids,
        told(xids=(FALLEN,)),
        "node1:GPU0",
        "warning",
        "XID 79 (it has fallen off the bus) at 0000:03:00, within the last hour",
    ),
    (
        wear.xids,
        with_card(base=told(xids=(replace(FALLEN, count=2),)), fault="GPU is lost"),
        "node1:GPU0",
        "error",
        "2 times",
    ),
    (
        wear.xids,
        told(xids=(replace(FALLEN, pci_bus_id="0000:81:00", at_seconds=90_000.0),)),
        "node1",
        "error",
        "2 h ago",
    ),
    (wear.xids, told(xids=(replace(FALLEN, code=31),)), "node1:GPU0", "info", "a program's fault"),
    (
        wear.faults,
        with_card(fault="GPU is lost; reboot"),
        "node1:GPU0",
        "error",
        "GPU is lost; reboot; on it: node1/gpu0",
    ),
]

SILENT: list[tuple[Rule, ClusterSnapshot]] = [
    (gpus.drivers, told(driver_version=None)),
    (
        gpus.drivers,
        with_card(0, with_card(1, told(driver_version="535.54.03"), name="A2"), name="A2"),
    ),
    (gpus.persistence, with_card(persistence_mode=None)),
    (gpus.power_limits, with_card(power_limit_watts=280.0, power_limit_default_watts=280.0)),
    (gpus.power_limits, with_card(power_limit_watts=250.4)),
    (gpus.power_limits, with_card(power_limit_watts=None)),
    (gpus.power_limits, with_card(power_limit_watts=180.0, name="Tesla P100")),
    (gpus.pcie, with_card(pcie_generation=1, utilization_percent=2.0)),
    (gpus.pcie, with_card(pcie_generation=1, utilization_percent=None)),
    (gpus.pcie, with_card(pcie_width=4, pcie_width_max=None)),
    (gpus.pcie, with_card(pcie_width=4, pcie_width_max=4)),
    (gpus.pcie, with_card(pcie_width=4, fault="lost")),
    (gpus.throttled, with_card(throttle=("software_power_cap", "sync_boost"))),
    (gpus.throttled, with_card(throttle=None)),
    (gpus.hot, with_card(temperature_celsius=86.0)),
    (gpus.hot, with_card(temperature_celsius=84.0, temperature_slowdown_celsius=None)),
    (gpus.hot, with_card(temperature_celsius=None)),
    (gpus.strangers, with_card(workers=(), processes={"4242": None}, utilization_percent=20.0)),
    (gpus.strangers, with_card(workers=(), processes=None)),
    (gpus.strangers, with_card(processes={"4242": None})),
    (gpus.idle, with_card(workers=(), utilization_percent=0.0, processes={})),
    (
        gpus.idle,
        with_worker(
            0, with_card(1, workers=(), utilization_percent=0.0, processes={}), queued_seconds=5.0
        ),
    ),
    (
        gpus.idle,
        with_worker(
            0,
            with_card(1, workers=(), utilization_percent=0.0, processes={"9": 5}),
            queued_seconds=40.0,
        ),
    ),
    (
        gpus.idle,
        with_worker(
            1,
            with_worker(
                0,
                with_card(1, workers=(), utilization_percent=0.0, processes={}),
                queued_seconds=40.0,
            ),
            gpus=None,
        ),
    ),
    (wear.ecc, with_card(ecc_uncorrected=None)),
    (wear.pages, with_card(retired_pages=None, retired_pages_pending=None)),
    (wear.xids, told(xids=None)),
    (wear.xids, told(xids=(replace(FALLEN, at_seconds=5_000.0),))),
]


@pytest.mark.parametrize("rule", RULES)
def test_nothing_is_said_of_what_is_well_or_not_known(rule: Rule) -> None:
    assert found(rule, told()) == []
    assert found(rule, clusters.well()) == []
    assert found(rule, clusters.empty()) == []


def test_of_two_drivers_the_newer_is_the_usual_one() -> None:
    (one,) = found(gpus.drivers, told(driver_version="1000.1"))
    assert one.place == "node2"
    assert one.evidence == "driver 550.163.01, other nodes with Tesla P40 have 1000.1"


def test_a_lost_card_is_told_with_its_xid() -> None:
    snapshot = with_card(base=told(xids=(FALLEN,)), fault="GPU is lost")
    assert [one.id for one in judge(snapshot, wear.RULES).findings] == ["gpu-fault", "gpu-xid"]


def test_a_cause_that_is_certain_stands_alone() -> None:
    reasons = ("hardware_slowdown", "hardware_thermal_slowdown")
    (one,) = found(gpus.throttled, with_card(throttle=reasons))
    assert one.why == "it is too hot"
    (one,) = found(gpus.throttled, with_card(throttle=reasons[:1]))
    assert one.why == "it is too hot, or its power supply too weak"
