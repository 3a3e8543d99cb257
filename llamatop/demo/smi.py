"""nvidia-smi of a simulated machine: the queries that programs ask, and the table for people."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from . import board
from .card import CUDA, DRIVER, Card

if TYPE_CHECKING:
    from .control import Output
    from .machine import Machine

MIB = 2**20
LOST = "[GPU is lost]"
LASTING = {"index", "uuid", "gpu_uuid", "name", "gpu_name", "count", "pci.bus_id", "gpu_bus_id"}
LASTING |= {"driver_version"}


def throttle_bits(card: Card) -> int:
    """NVML's mask of the reasons why it runs slower than it could."""
    return (0 if card.load else 1) | (0x48 if card.throttled else 0)


def _values(card: Card, count: int) -> dict[str, tuple[str, str]]:
    """Every field that can be asked for, with its unit."""
    hot = "Active" if card.throttled else "Not Active"
    used, total = card.memory_bytes // MIB, card.kind.memory_bytes // MIB
    clocks = {
        "sm": (str(card.sm_clock), "MHz"),
        "gr": (str(card.sm_clock), "MHz"),
        "mem": (str(card.memory_clock), "MHz"),
    }
    maxima = {
        "sm": card.kind.sm_clock_max,
        "gr": card.kind.sm_clock_max,
        "mem": card.kind.memory_clock_max,
    }
    names = {"sm": "sm", "gr": "graphics", "mem": "memory"}
    fields = {
        "index": (str(card.index), ""),
        "uuid": (card.uuid, ""),
        "gpu_uuid": (card.uuid, ""),
        "name": (card.kind.name, ""),
        "gpu_name": (card.kind.name, ""),
        "count": (str(count), ""),
        "driver_version": (DRIVER, ""),
        "serial": (f"03240171{card.index:05d}", ""),
        "pci.bus_id": (card.bus, ""),
        "gpu_bus_id": (card.bus, ""),
        "pstate": (card.performance_state, ""),
        "utilization.gpu": (str(card.utilization_percent), "%"),
        "utilization.memory": (str(card.utilization_percent * 3 // 4), "%"),
        "memory.total": (str(total), "MiB"),
        "memory.used": (str(used), "MiB"),
        "memory.free": (str(total - used), "MiB"),
        "memory.reserved": ("101", "MiB"),
        "power.draw": (f"{card.power:.2f}", "W"),
        "power.draw.instant": (f"{card.power:.2f}", "W"),
        "power.draw.average": (f"{card.power:.2f}", "W"),
        "power.limit": (f"{card.kind.power_limit:.2f}", "W"),
        "enforced.power.limit": (f"{card.kind.power_limit:.2f}", "W"),
        "power.default_limit": (f"{card.kind.power_limit:.2f}", "W"),
        "power.max_limit": (f"{card.kind.power_limit:.2f}", "W"),
        "power.min_limit": ("125.00", "W"),
        "power.management": ("Enabled", ""),
        "temperature.gpu": (str(round(card.temperature)), ""),
        "temperature.memory": ("N/A", ""),
        "fan.speed": ("[N/A]", ""),
        "pcie.link.gen.current": (str(card.pcie_generation), ""),
        "pcie.link.gen.gpucurrent": (str(card.pcie_generation), ""),
        "pcie.link.gen.max": (str(card.kind.pcie_generation), ""),
        "pcie.link.width.current": ("16", ""),
        "pcie.link.width.max": ("16", ""),
        "persistence_mode": ("Enabled", ""),
        "compute_mode": ("Default", ""),
        "display_active": ("Disabled", ""),
        "display_mode": ("Enabled", ""),
        "mig.mode.current": ("[N/A]", ""),
        "ecc.errors.uncorrected.volatile.total": ("0", ""),
        "ecc.mode.current": ("Enabled", ""),
        "retired_pages.single_bit_ecc.count": ("0", ""),
        "retired_pages.double_bit.count": ("0", ""),
        "retired_pages.pending": ("No", ""),
        "timestamp": (time.strftime("%Y/%m/%d %H:%M:%S.000"), ""),
    }
    reasons = {
        "gpu_idle": "Not Active" if card.load else "Active",
        "applications_clocks_setting": "Not Active",
        "sw_power_cap": "Not Active",
        "hw_slowdown": hot,
        "hw_thermal_slowdown": hot,
        "hw_power_brake_slowdown": "Not Active",
        "sw_thermal_slowdown": "Not Active",
        "sync_boost": "Not Active",
    }
    bits = throttle_bits(card)
    for prefix in ("clocks_throttle_reasons", "clocks_event_reasons"):
        for name, value in reasons.items():
            fields[f"{prefix}.{name}"] = (value, "")
        fields[f"{prefix}.active"] = (f"0x{bits:016X}", "")
        fields[f"{prefix}.supported"] = ("0x00000000000001FF", "")
    for short, clock in clocks.items():
        fields[f"clocks.{short}"] = fields[f"clocks.current.{names[short]}"] = clock
        fields[f"clocks.max.{short}"] = (str(maxima[short]), "MHz")
        fields[f"clocks.max.{names[short]}"] = (str(maxima[short]), "MHz")
    if card.lost:
        fields |= {name: (LOST, "") for name in fields if name not in LASTING}
    return fields


def _processes(machine: Machine, card: Card) -> list[dict[str, tuple[str, str]]]:
    rows = []
    for pid, used in card.processes.items():
        task = machine.table.tasks.get(pid)
        path = task.argv[0] if task else "[Not Found]"
        rows.append(
            {
                "gpu_name": (card.kind.name, ""),
                "gpu_bus_id": (card.bus, ""),
                "gpu_serial": (f"03240171{card.index:05d}", ""),
                "gpu_uuid": (card.uuid, ""),
                "pid": (str(pid), ""),
                "process_name": (path, ""),
                "name": (path, ""),
                "used_gpu_memory": (str(used // MIB), "MiB"),
                "used_memory": (str(used // MIB), "MiB"),
            }
        )
    return rows


def _query(rows: list[dict[str, tuple[str, str]]], asked: str, form: str, output: Output) -> int:
    names = [name.strip() for name in asked.split(",")]
    style = form.split(",")
    lines = []
    for row in rows:
        cells = []
        for name in names:
            if name not in row:
                output.write(f'Field "{name}" is not a valid field to query.\n\n')
                return 2
            value, unit = row[name]
            cells.append(value if not unit or "nounits" in style else f"{value} {unit}")
        lines.append(", ".join(cells))
    if "noheader" not in style:
        first = rows[0] if rows else {}
        heads = [
            f"{name} [{first[name][1]}]" if first.get(name, ("", ""))[1] else name for name in names
        ]
        lines.insert(0, ", ".join(heads))
    output.write("".join(line + "\n" for line in lines))
    return 0


def _screen(machine: Machine) -> str:
    bar = "+" + "-" * 41 + "+" + "-" * 24 + "+" + "-" * 22 + "+\n"
    text = time.strftime("%a %b %e %H:%M:%S %Y\n")
    text += f"NVIDIA-SMI {DRIVER}   Driver Version: {DRIVER}   CUDA Version: {CUDA}\n" + bar
    for card in machine.cards:
        if card.lost:
            text += (
                f"| {card.index:3d}  {card.kind.name:34} | {card.bus:22} | {'ERR!':>20} |\n" + bar
            )
            continue
        used = f"{card.memory_bytes // MIB}MiB / {card.kind.memory_bytes // MIB}MiB"
        text += f"| {card.index:3d}  {card.kind.name:34} | {card.bus:22} | {'0':>20} |\n"
        power = f"{card.power:.0f}W / {card.kind.power_limit:.0f}W"
        left = f"N/A {card.temperature:3.0f}C  {card.performance_state}  {power}"
        text += f"| {left:39} | {used:>22} | {card.utilization_percent:>10}%  Default |\n" + bar
    text += "| Processes: GPU   PID   Type   Process name   GPU Memory\n"
    for card in machine.cards:
        for pid, used_bytes in card.processes.items():
            task = machine.table.tasks.get(pid)
            name = task.argv[0] if task else "[Not Found]"
            text += f"|   {card.index:3d}  {pid:7d}   C   {name}   {used_bytes // MIB}MiB\n"
    return text


async def nvidia_smi(machine: Machine, argv: list[str], output: Output) -> int:
    """Run one nvidia-smi; gives its exit status."""
    given: dict[str, str] = {}
    waiting = iter(argv)
    for word in waiting:
        name, equals, value = word.partition("=")
        if not equals and name in ("-i", "--id", "--format", "--query-gpu", "-lms", "-l"):
            value = next(waiting, "")
        given[name] = value
    if not machine.cards:
        output.write("No devices were found\n")
        return 6
    chosen = [
        card
        for card in machine.cards
        if "-i" not in given or given["-i"] in (str(card.index), card.uuid, card.bus)
    ]
    alive = [card for card in chosen if not card.lost]
    form = given.get("--format", "csv")
    if "--query-gpu" in given:
        rows = [_values(card, len(machine.cards)) for card in chosen]
        return _query(rows, given["--query-gpu"], form, output)
    asked = given.get("--query-compute-apps", given.get("--query-apps"))
    if asked is not None:
        rows = [row for card in alive for row in _processes(machine, card)]
        return _query(rows, asked, form, output)
    if argv == ["topo", "-m"]:
        output.write(board.matrix(machine.cards, machine.table.cpu_count))
        return 0
    if "-L" in given or "--list-gpus" in given:
        output.write("".join(f"GPU {c.index}: {c.kind.name} (UUID: {c.uuid})\n" for c in alive))
        return 0
    output.write(_screen(machine))
    return 0
