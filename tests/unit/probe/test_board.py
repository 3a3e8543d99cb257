"""How the machine is built, what its driver complained of, and what holds its workers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llamatop.probe import board, confines, links, procfs

from .node import FakeNode

WORKER = "llama-server-gpu0.service"
XID = "NVRM: Xid (PCI:0000:03:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


class Bridge:
    """NVML with the NVLinks of `joined`: by card, the bus at the other end of each link."""

    class NVMLError(Exception):
        value = 3

    def __init__(self, joined: dict[int, list[str]]) -> None:
        self.joined = joined

    def nvmlDeviceGetNvLinkState(self, card: int, link: int) -> int:  # noqa: N802
        if link >= len(self.joined.get(card, [])):
            raise self.NVMLError
        return 1

    def nvmlDeviceGetNvLinkRemotePciInfo(self, card: int, link: int) -> Any:  # noqa: N802
        return SimpleNamespace(busId=self.joined[card][link].encode())

    def nvmlDeviceGetTopologyCommonAncestor(self, one: int, other: int) -> int:  # noqa: N802
        return 50


def test_nvlinks_are_counted_by_the_card_at_their_end() -> None:
    cards = [("A", 0, "bus0"), ("B", 1, "bus1"), ("C", 2, "bus2")]
    library = Bridge({0: ["bus1", "bus1"], 1: ["bus0", "bus0"]})
    assert links.read(library, cards) == {"A": {"B": "NV2", "C": "SYS"}, "B": {"C": "SYS"}, "C": {}}


def test_through_a_switch_every_card_is_reached_by_all_links() -> None:
    cards = [("A", 0, "bus0"), ("B", 1, "bus1")]
    library = Bridge({0: ["switch1", "switch2"], 1: ["switch1", "switch2"]})
    assert links.read(library, cards)["A"] == {"B": "NV2"}


def test_a_matrix_of_nvidia_smi() -> None:
    text = (
        "\t\x1b[4mGPU0\tGPU1\tGPU2\tNIC0\tCPU Affinity\tNUMA Affinity\x1b[0m\n"
        "GPU0\t X \tNV4\tSYS\tPHB\t0-15\t0\nGPU1\tNV4\t X \tSYS\tPHB\t0-15\t0\n"
        "GPU2\tSYS\tSYS\t X \tSYS\t16-31\t1\nNIC0\tPHB\tPHB\tSYS\t X\n\nLegend:\n"
    )
    assert links.matrix(text) == {0: {1: "NV4", 2: "SYS"}, 1: {2: "SYS"}}
    assert links.matrix("No devices were found\n") == {}


@pytest.mark.parametrize(
    ("classes", "kinds", "told"),
    [
        ((), ["DMA-FQ"], "off"),
        (("dmar0",), ["DMA-FQ"], "translating"),
        (("dmar0",), ["identity"], "passthrough"),
        (("dmar0",), ["identity", "DMA"], "translating"),
        (("dmar0",), ["identity", None], None),
        (("dmar0",), [], None),
    ],
)
def test_what_the_iommu_does_to_the_cards(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    classes: tuple[str, ...],
    kinds: list[str | None],
    told: str | None,
) -> None:
    monkeypatch.setattr(procfs, "SYS", str(tmp_path))
    (tmp_path / "class/iommu").mkdir(parents=True)
    for name in classes:
        (tmp_path / "class/iommu" / name).touch()
    # what others do is of no matter: a bridge, and a card of another maker
    devices = [("0x8086", "0x060000", "DMA-FQ"), ("0x1a03", "0x030000", "DMA-FQ")]
    devices += [("0x10de", "0x030200", kind) for kind in kinds]
    for number, (vendor, kind, group) in enumerate(devices):
        place = tmp_path / f"bus/pci/devices/0000:0{number}:00.0"
        write(place / "vendor", vendor + "\n")
        write(place / "class", kind + "\n")
        if group is not None:
            write(tmp_path / f"kernel/iommu_groups/{number}/type", group + "\n")
            (place / "iommu_group").symlink_to(tmp_path / f"kernel/iommu_groups/{number}")
    assert board.iommu() == told


def test_numa_nodes_and_the_cards_on_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "SYS", str(tmp_path))
    assert board.numa_cpus() is None
    write(tmp_path / "devices/system/node/node0/cpulist", "0-7\n")
    write(tmp_path / "devices/system/node/node1/cpulist", "8-15\n")
    write(tmp_path / "bus/pci/devices/0000:c1:00.0/numa_node", "1\n")
    write(tmp_path / "bus/pci/devices/0000:03:00.0/numa_node", "-1\n")
    assert board.numa_cpus() == {"0": "0-7", "1": "8-15"}
    assert board.numa_node("00000000:C1:00.0") == 1
    assert board.numa_node("00000000:03:00.0") is None
    assert board.numa_node("00000000:04:00.0") is None


def test_the_group_of_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "SYS", str(tmp_path / "sys"))
    monkeypatch.setattr(procfs, "ROOT", str(tmp_path / "proc"))
    place = tmp_path / "sys/bus/pci/devices/0000:c1:00.0"
    place.mkdir(parents=True)
    assert board.iommu_group("00000000:C1:00.0") is None
    (place / "iommu_group").symlink_to("../../../../kernel/iommu_groups/14")
    assert board.iommu_group("00000000:C1:00.0") == 14
    assert board.iommu_group(None) is None
    write(tmp_path / "proc/cmdline", "quiet iommu=pt pcie_acs_override=downstream\n")
    assert board.iommu_group("00000000:C1:00.0") is None


def test_a_model_behind_a_link_lies_where_the_link_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procfs, "ROOT", str(tmp_path / "proc"))
    here = str(tmp_path)
    write(
        tmp_path / "proc/7/mountinfo",
        "21 1 8:2 / / rw - ext4 /dev/sda2 rw\n"
        f"22 21 0:41 / {here}/with\\040space rw - nfs4 server:/x rw\n"
        f"23 21 8:3 / {here}/local rw shared:1 - xfs /dev/sdb rw\n",
    )
    (tmp_path / "models").symlink_to(tmp_path / "with space")
    assert confines.read(7, f"{here}/local/m.gguf")["model_filesystem"] == "xfs"
    assert confines.read(7, f"{here}/models/m.gguf")["model_filesystem"] == "nfs4"
    assert confines.read(7, f"{here}/m.gguf")["model_filesystem"] == "ext4"
    assert confines.read(7, "ggml-org/model")["model_filesystem"] is None
    assert set(confines.read(8, "/m.gguf").values()) == {None}


@pytest.mark.slow
def test_a_node_tells_what_the_driver_complained_of_and_what_holds_a_worker(
    node: FakeNode,
) -> None:
    node.worker(WORKER, 1, 101)
    write(node.proc / "101/status", "Name:\tx\nCpus_allowed_list:\t0-3\nMems_allowed_list:\t1\n")
    write(node.proc / "101/limits", "Max locked memory         65536   unlimited   bytes\n")
    kmsg = node.root / "kmsg"
    kmsg.write_text(f"6,1,500000,-;booted\n3,2,990500000,-;{XID}\n")
    running = node.start()
    document = running.until(lambda d: d["workers"].get(WORKER, {}).get("confines"))
    assert document["host"]["xids"] == [
        {"pci_bus_id": "0000:03:00", "code": 79, "at_seconds": 990.5, "count": 1}
    ]
    assert document["workers"][WORKER]["confines"] == {
        "cpus": "0-3",
        "memory_nodes": "1",
        "memlock_bytes": 65536,
    }
    with kmsg.open("a") as log:
        log.write(f"3,3,999000000,-;{XID}\n")
    document = running.until(lambda d: d["host"]["xids"][0]["count"] == 2)
    assert document["host"]["xids"][0]["at_seconds"] == 999.0
    running.close()
