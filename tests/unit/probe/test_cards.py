"""Cards: NVML call by call with a library that fails, and nvidia-smi's tables."""

from __future__ import annotations

import builtins
import dis
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamatop.probe import bindings, nvidia_smi, nvml

from .node import FakeNode

pytestmark = pytest.mark.slow


class FakeError(Exception):
    def __init__(self, value: int) -> None:
        self.value = value
        super().__init__(f"error {value}")


class FakeLibrary(types.ModuleType):
    """pynvml with two cards; `failing` maps (function, card) or function to an error code."""

    NVMLError = FakeError

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.failing: dict[Any, int] = {}
        self.called: list[str] = []
        self.results: dict[str, Any] = {
            "UUID": lambda card: f"GPU-{card}",
            "Name": lambda card: "Tesla P40",
            "UtilizationRates": lambda card: SimpleNamespace(gpu=97),
            "MemoryInfo": lambda card: SimpleNamespace(used=1, total=2),
            "PowerUsage": lambda card: 172_550,
            "EnforcedPowerLimit": lambda card: 250_000,
            "Temperature": lambda card, kind: 68,
            "ClockInfo": lambda card, kind: 1303,
            "MaxClockInfo": lambda card, kind: 1531,
            "CurrentClocksEventReasons": lambda card: 0x4 | 0x1,
            "CurrPcieLinkGeneration": lambda card: 3,
            "CurrPcieLinkWidth": lambda card: 16,
            "MaxPcieLinkGeneration": lambda card: 3,
            "MaxPcieLinkWidth": lambda card: 16,
            "PciInfo": lambda card: SimpleNamespace(busId=b"00000000:%02X:00.0" % (3 + card)),
            "PersistenceMode": lambda card: 0,
            "PowerManagementDefaultLimit": lambda card: 250_000,
            "TemperatureThreshold": lambda card, kind: {1: 92}[kind],
            "TotalEccErrors": lambda card, kind, counter: {(1, 0): 2}[kind, counter],
            "RetiredPagesPendingStatus": lambda card: 1,
            "RetiredPages": lambda card, cause: [1, 2] if cause else [3],
            "TopologyCommonAncestor": lambda card, other: 20,
            "ComputeRunningProcesses": lambda card: [
                SimpleNamespace(pid=10 + card, usedGpuMemory=5),
                SimpleNamespace(pid=99, usedGpuMemory=2**64 - 1),
            ],
        }

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "nvmlDeviceGetCount":
            return lambda: 2
        if name in ("nvmlInit", "nvmlShutdown"):
            return lambda: self.fail(name, None)
        if name == "nvmlDeviceGetHandleByIndex":
            return lambda index: self.fail(name, index) or index
        short = name.removeprefix("nvmlDeviceGet")
        if short in self.results:
            return lambda card, *rest: self.call(short, card, *rest)
        raise AttributeError(name)

    def fail(self, name: str, card: int | None) -> None:
        code = self.failing.get((name, card), self.failing.get(name))
        if code is not None:
            raise FakeError(code)

    def call(self, short: str, card: int, *rest: Any) -> Any:
        self.called.append(short)
        self.fail(short, card)
        return self.results[short](card, *rest)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    fake = FakeLibrary()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_a_card_is_told_whole(library: FakeLibrary) -> None:
    cards = nvml.Nvml().sample(True)
    assert cards["GPU-1"] == {
        "uuid": "GPU-1",
        "index": 1,
        "source": "nvml",
        "name": "Tesla P40",
        "utilization_percent": 97,
        "memory_used_bytes": 1,
        "memory_total_bytes": 2,
        "power_watts": 172.6,
        "power_limit_watts": 250.0,
        "temperature_celsius": 68,
        "sm_clock_mhz": 1303,
        "sm_clock_max_mhz": 1531,
        "memory_clock_mhz": 1303,
        "memory_clock_max_mhz": 1531,
        "throttle": ["software_power_cap"],
        "pcie_generation": 3,
        "pcie_generation_max": 3,
        "pcie_width": 16,
        "pcie_width_max": 16,
        "pci_bus_id": "00000000:04:00.0",
        "persistence_mode": False,
        "power_limit_default_watts": 250.0,
        "temperature_slowdown_celsius": 92,
        "ecc_uncorrected": 2,
        "retired_pages": 3,
        "retired_pages_pending": True,
        "numa_node": None,
        "iommu_group": None,
        "links": {},
        "processes": {"11": 5, "99": None},
    }
    assert cards["GPU-0"]["links"] == {"GPU-1": "PXB"}


def test_rows_remapped_stand_for_pages_where_there_are_none(library: FakeLibrary) -> None:
    library.results["RemappedRows"] = lambda card: (1, 2, 0, 0)
    card = nvml.Nvml().sample(True)["GPU-0"]
    assert (card["retired_pages"], card["retired_pages_pending"]) == (3, False)


def test_what_many_cards_do_not_tell_is_no_fault(library: FakeLibrary) -> None:
    library.failing = {"PersistenceMode": 999, "TotalEccErrors": 3, "TopologyCommonAncestor": 999}
    card = nvml.Nvml().sample(True)["GPU-0"]
    assert "fault" not in card
    assert "persistence_mode" not in card
    assert "ecc_uncorrected" not in card
    assert card["links"] == {}


def test_a_lost_card_is_a_fault_of_that_card_alone(library: FakeLibrary) -> None:
    driver = nvml.Nvml()
    driver.sample(True)
    for short in library.results:
        library.failing[short, 0] = 15
    cards = driver.sample(True)
    assert "dmesg" in cards["GPU-0"]["fault"]
    assert cards["GPU-0"]["name"] == "Tesla P40"
    assert cards["GPU-0"].get("utilization_percent") is None
    assert "fault" not in cards["GPU-1"]
    library.failing.clear()
    assert "fault" not in driver.sample(True)["GPU-0"]


def test_what_a_card_does_not_support_is_asked_once_and_is_no_fault(library: FakeLibrary) -> None:
    library.failing["PowerUsage"] = nvml.NOT_SUPPORTED
    library.failing["ComputeRunningProcesses"] = 4
    driver = nvml.Nvml()
    for _ in range(3):
        card = driver.sample(True)["GPU-0"]
        assert card["power_watts"] is None
        assert card["processes"] is None
        assert "fault" not in card
    assert library.called.count("PowerUsage") == 2


def test_processes_and_fixed_figures_are_not_read_every_tick(library: FakeLibrary) -> None:
    driver = nvml.Nvml()
    for _ in range(9):
        driver.sample(False)
    assert library.called.count("ComputeRunningProcesses") == 2 * 3
    assert library.called.count("Name") == 2


@pytest.mark.parametrize(("code", "missing"), [(12, True), (9, False), (18, False)])
def test_no_driver_has_its_mend(library: FakeLibrary, code: int, missing: bool) -> None:
    library.failing["nvmlInit"] = code
    with pytest.raises(nvml.NvmlError, match=r"driver|modules") as caught:
        nvml.Nvml()
    assert caught.value.missing is missing


def test_unknown_cells_are_unknown() -> None:
    fields = ["index", "uuid", "power.draw", "memory.used"]
    found = nvidia_smi.cards("0, GPU-1, [N/A], 12\n\nbroken\n1, , 3, 4\n", fields)
    assert found == {
        "GPU-1": {
            "source": "nvidia-smi",
            "index": 0,
            "uuid": "GPU-1",
            "power_watts": None,
            "memory_used_bytes": 12 * 2**20,
            "fault": None,
        }
    }


@given(st.text())
def test_any_table_is_some_cards(output: str) -> None:
    nvidia_smi.cards(output, list(nvidia_smi.FIELDS))
    nvidia_smi.processes(output)
    nvidia_smi.refused(output)


HANGING = """
import time
class NVMLError(Exception): value = 1
def nvmlInit(): pass
def nvmlShutdown(): pass
def nvmlDeviceGetCount(): return 1
def nvmlDeviceGetHandleByIndex(i): return i
def nvmlDeviceGetUUID(h): return "GPU-1"
n = [0]
def nvmlDeviceGetUtilizationRates(h):
    n[0] += 1
    if n[0] > 3: time.sleep(600)
    class R: gpu = 50
    return R
"""


def test_a_call_that_hangs_ages_the_cards_alone(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llamatop.probe import bundle

    monkeypatch.setattr(bundle.bindings, "slim", lambda source, roots: HANGING)
    bundle._built.cache_clear()
    try:
        running = node.start()
        document = running.until(lambda d: d["ages"].get("gpus", 0) > 1)
        assert document["gpus"]["GPU-1"]["utilization_percent"] == 50
        assert document["host"]["hostname"] == "fake"
        before = len(running.arrivals)
        running.until(lambda d: d["tick"] >= document["tick"] + 5)
        gaps = [
            b - a
            for a, b in zip(running.arrivals[before:], running.arrivals[before + 1 :], strict=False)
        ]
        assert max(gaps) < 0.8
        assert running.close() == 0
    finally:
        bundle._built.cache_clear()


def test_the_bindings_that_are_sent_are_whole_where_they_are_called() -> None:
    source = Path(pynvml.__file__).read_text()
    roots = bindings.called(Path(nvml.__file__).read_text())
    assert {"nvmlInit", "nvmlShutdown", "nvmlMemory_v2", "NVMLError"} < roots
    text = bindings.slim(source, roots)
    assert len(text) < len(source) / 8
    assert "Copyright" in text
    module: dict[str, Any] = {"__name__": "pynvml_slim"}
    sys.modules["pynvml_slim"] = types.ModuleType("pynvml_slim")
    sys.modules["pynvml_slim"].__dict__.update(module)
    try:
        exec(compile(text, "pynvml", "exec"), sys.modules["pynvml_slim"].__dict__)
        slim = sys.modules["pynvml_slim"].__dict__
        assert roots <= set(slim)
        assert str(slim["NVMLError"](15)) == str(pynvml.NVMLError(15))
        classes = [value for value in slim.values() if isinstance(value, type)]
        members = [item for one in classes for item in vars(one).items()]
        for name, function in [*slim.items(), *members]:
            if isinstance(function, types.FunctionType) and function.__globals__ is slim:
                missing = _globals(function.__code__) - set(slim) - set(dir(builtins))
                assert not missing, f"{name} needs {missing}"
    finally:
        del sys.modules["pynvml_slim"]


def test_bindings_are_cut_between_statements_however_they_are_laid_out() -> None:
    source = '''# licence
import os
text = """
def nvmlFake(): pass
nvmlB = nothing
"""
@wraps
# a remark, nvmlX = 1
@other(
    1
)
def nvmlA():
    return nvmlB + SIZE  # why
# of nobody
SIZE = 4  # bytes
nvmlB = nvmlC = (
    5
)
NOBODY = 6

def nvmlD():
    return NOBODY
'''
    text = bindings.slim(source, {"nvmlA"})
    assert text.startswith("# licence\nimport os\n@wraps\n# a remark, nvmlX = 1\n@other(\n")
    kept = text.partition("def nvmlA")[2]
    assert kept.split("\n", 2)[2] == "SIZE = 4  # bytes\nnvmlB = nvmlC = (\n    5\n)\n"


def test_bindings_without_a_function_are_refused() -> None:
    with pytest.raises(KeyError, match="nvmlNew"):
        bindings.slim("def nvmlOld(): pass\n", {"nvmlNew"})


def test_bindings_written_otherwise_are_parsed_whole() -> None:
    other = "import sys\nif sys:\n    a = 1\nelse:\n    a = 2\n" + "b = 0\n" * 200
    other += 'def nvmlA():\n    """A\ntext in the first column\n    """\n    return nvmlB()\n'
    other += "@staticmethod\ndef nvmlB(): return a\ndef nvmlC(): pass\n"
    text = bindings.slim(other, {"nvmlA"})
    assert "@staticmethod\ndef nvmlB" in text
    assert "else:" in text
    assert "nvmlC" not in text
    compile(text, "bindings", "exec")


def _globals(code: types.CodeType) -> set[str]:
    """Every global name that a function's code loads, its inner functions too."""
    found = {one.argval for one in dis.get_instructions(code) if one.opname == "LOAD_GLOBAL"}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _globals(constant)
    return found
