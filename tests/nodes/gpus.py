"""The NVIDIA cards of a machine: a driver that is not there, as NVML would report one."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.nodes.cache import cached
from tests.nodes.errors import NodesError
from tests.nodes.machine import Machine
from tests.nodes.wheels import unpack_wheel

_HERE = Path(__file__).parent
_HEADER = "nvidia-nvml-dev==13.5.37"
_LIBRARY = "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"
_CONF = "/etc/gpus.conf"
_UNIT = """[Unit]
Description=NVIDIA driver
Before=multi-user.target

[Service]
ExecStart=/usr/local/sbin/gpu-driver
Restart=always

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Gpu:
    """One card as the driver knows it: memory in bytes, power limit in milliwatts.

    With `uuid` None it gets one that no other card of the run has.
    """

    uuid: str | None = None
    name: str = "Tesla P40"
    memory_total: int = 24 * 2**30
    power_limit: int = 250_000


P40 = Gpu()


def _not_supported(header: str, defined: str) -> str:
    """C for every function of the header that is not defined: a card that cannot do it says so."""
    names = set(re.findall(r"^nvmlReturn_t DECLDIR (nvml\w+)\(", header, re.MULTILINE))
    names -= set(re.findall(r"^nvmlReturn_t (nvml\w+)\(", defined, re.MULTILINE))
    return "".join(f"int {name}(void) {{ return 3; }}\n" for name in sorted(names))


def _compiler_output() -> Path:
    sources = [_HERE / "nvml.c", _HERE / "gpu-driver.c"]

    def build(place: Path) -> None:
        with tempfile.TemporaryDirectory() as unpacked:
            unpack_wheel(_HEADER, Path(unpacked))
            (header,) = Path(unpacked).glob("**/nvml.h")
            rest = Path(unpacked, "rest.c")
            rest.write_text(_not_supported(header.read_text(), sources[0].read_text()))
            library = ["-shared", "-fPIC", "-pthread", "-Wl,-soname,libnvidia-ml.so.1"]
            library += ["-I", str(header.parent), "-o", str(place / "libnvidia-ml.so.1")]
            for arguments in (
                [*library, str(sources[0]), str(rest)],
                ["-o", str(place / "gpu-driver"), str(sources[1])],
            ):
                command = ["gcc", "-O2", "-Wall", "-Werror", *arguments]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise NodesError(f"{' '.join(command)}:\n{done.stderr[:3000]}")

    recipe = [_HEADER, *(source.read_text() for source in sources), inspect.getsource(build)]
    return cached("nvml", repr(recipe), build)


def _uuid(machine: Machine, index: int) -> str:
    return f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{machine.full_name}.{index}')}"


class Gpus:
    """The cards of one machine, made while it is off and changed at any time.

    A card's values follow the processes that use it until `set` fixes them. Keys of nvml.c:
    `utilization`, `memory_used` (bytes), `power` (mW), `temperature`, `reasons`, `pcie_width`,
    `hang`, `lost`, `gone`, `hide_processes`, `error.power` and the like (an NVML error code).
    """

    def __init__(self, machine: Machine, cards: Sequence[Gpu]) -> None:
        self._machine = machine
        self._driver: dict[str, object] = {}
        self._cards: list[dict[str, object]] = [
            {
                "uuid": card.uuid or _uuid(machine, index),
                "name": card.name,
                "memory_total": card.memory_total,
                "power_limit": card.power_limit,
            }
            for index, card in enumerate(cards)
        ]
        compiled = _compiler_output()
        shutil.copy(compiled / "libnvidia-ml.so.1", machine.root / _LIBRARY)
        shutil.copy(compiled / "gpu-driver", machine.root / "usr/local/sbin/gpu-driver")
        machine.write("/usr/bin/nvidia-smi", (_HERE / "nvidia-smi").read_text(), mode=0o755)
        machine.write("/etc/systemd/system/gpu-driver.service", _UNIT)
        machine.enable("gpu-driver.service")
        self._write()

    def set(self, index: int, **values: object) -> None:
        """Fix values of one card; None gives one back to what the processes make of it."""
        self._change(self._cards[index], values)

    def set_driver(self, **values: object) -> None:
        """Fix values of the driver: `hang=1`, `driver_error` (an NVML code), `driver`, `cuda`."""
        self._change(self._driver, values)

    def set_error(self, index: int, call: str, code: int | None) -> None:
        """Let one kind of call on one card fail with an NVML error code; None ends it."""
        self._change(self._cards[index], {f"error.{call}": code})

    def unload(self) -> None:
        """Take the library away, as NVMLError_LibraryNotFound tells; nvidia-smi stays."""
        (self._machine.root / _LIBRARY).unlink()

    def _change(self, section: dict[str, object], values: Mapping[str, object]) -> None:
        for key, value in values.items():
            if value is None:
                section.pop(key, None)
            else:
                section[key] = value
        self._write()

    def _write(self) -> None:
        lines = [f"{key}={value}" for key, value in self._driver.items()]
        for index, card in enumerate(self._cards):
            lines += [f"{index}.{key}={value}" for key, value in card.items()]
        self._machine.write(_CONF, "\n".join(lines) + "\n")
