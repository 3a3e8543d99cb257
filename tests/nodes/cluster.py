"""The cluster of the field on real machines: 2 nodes of 2 GPUs, nginx and tunnels on the first.

`python -m tests.nodes.cluster up DIR` keeps one running for use by hand.
"""

from __future__ import annotations

import json
import signal
import sys
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tests.nodes import llama, packages
from tests.nodes.balancer import PORT, Forward, put_balancer, put_tunnel
from tests.nodes.base import minimal_python
from tests.nodes.gpus import P40, Gpu, Gpus
from tests.nodes.machine import Machine, wait_until
from tests.nodes.run import Run
from tests.nodes.worker import Worker

GPU0 = Worker("llama-server-gpu0.service", 37081, gpus="0")
MEMBER_PORTS = (37081, 37082, 37083, 37084)
GPU1 = Worker("llama-server-gpu1.service", 37082, gpus="1")


class Cluster:
    """Machines of one run that belong together. A context manager: leaving it removes them.

    `node1` and `node2` are what `two_by_two` made; more are added with `add_node` and its kin
    before or after the boot.
    """

    def __init__(self) -> None:
        self.run = Run()
        self.machines: dict[str, Machine] = {}
        self.gpus: dict[str, Gpus] = {}
        self._http_only: dict[str, str] = {}
        self._workers: dict[str, list[Worker]] = {}

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    def close(self) -> None:
        """Pull all plugs and remove every trace."""
        for machine in self.machines.values():
            machine.remove()
        self.run.close()

    def add_node(
        self,
        name: str,
        workers: Sequence[Worker] = (GPU0, GPU1),
        gpus: Sequence[Gpu] | None = (P40, P40),
        *,
        python_minimal: bool = False,
        jump: str | None = None,
        bridges_inner: bool = False,
    ) -> Machine:
        """Make a node, off: its workers start at boot. With `gpus` None it has no NVIDIA driver.

        `jump` names the node, made with `bridges_inner`, that alone leads to this one.
        """
        machine = Machine(
            self.run,
            name,
            11 + len(self.machines),
            layers=[minimal_python()] if python_minimal else [],
            binds={"/opt/llama": llama.llama_server(), "/opt/models": llama.models()},
            jump=jump,
            bridges_inner=bridges_inner,
        )
        self.machines[name] = machine
        self._workers[name] = []
        if gpus is not None:
            self.gpus[name] = Gpus(machine, gpus)
        for worker in workers:
            self.add_worker(name, worker)
        return machine

    def add_worker(self, node: str, worker: Worker, *, enable: bool = True) -> None:
        """Write a worker's unit on a node; one that is on needs a daemon-reload after it."""
        machine = self.machines[node]
        machine.write(f"/etc/systemd/system/{worker.unit}", worker.text())
        if enable:
            machine.enable(worker.unit)
        self._workers[node].append(worker)

    def add_http_only(self, name: str, worker: Worker | None = None) -> str:
        """Make a node whose worker is on the bridge, read by HTTP alone; returns its URL."""
        worker = worker or replace(GPU0, port=8080, model="tiny")
        machine = self.add_node(name, (replace(worker, host="0.0.0.0"),))
        url = f"http://{machine.address}:{worker.port}"
        self._http_only[name] = url
        return url

    def power_on(self) -> None:
        """Boot all machines at once, wait until they answer ssh and their workers `/health`."""
        for machine in self.machines.values():
            machine.power_on()
        for machine in self.machines.values():
            machine.wait_ready()
        for name in self.machines:
            for worker in self._workers[name]:
                self.wait_healthy(name, worker)

    def worker_get(self, node: str, worker: Worker, path: str) -> tuple[int, str]:
        """Status and body of a GET on the node's own loopback; status 0 where nothing listens."""
        request = f"GET {path} HTTP/1.0\\r\\nConnection: close\\r\\n\\r\\n"
        script = f"exec 3<>/dev/tcp/127.0.0.1/{worker.port}; printf '{request}' >&3; cat <&3"
        answer = self.machines[node].run(["timeout", "5", "bash", "-c", script], check=False).stdout
        head, _, body = answer.partition("\n\n")
        return int(head.split()[1]) if head.startswith("HTTP/") else 0, body

    def wait_healthy(self, node: str, worker: Worker, timeout: float = 90.0) -> None:
        """Wait until a worker answers `/health` on its node with 200: its model is loaded."""
        wait_until(
            f"{worker.unit} on {node} is healthy",
            lambda: self.worker_get(node, worker, "/health")[0] == 200,
            timeout,
        )

    @property
    def url(self) -> str:
        """nginx on node1, from this machine."""
        return f"http://{self.machines['node1'].address}:{PORT}"

    def wait_serving(self, members: int = 4, timeout: float = 90.0) -> None:
        """Wait until the first `members` answer `/health` on node1: the tunnels are up."""
        for port in MEMBER_PORTS[:members]:
            self.wait_healthy("node1", replace(GPU0, unit=f"member {port}", port=port), timeout)

    def post(self, path: str, body: dict[str, object], timeout: float = 60.0) -> dict[str, object]:
        """POST JSON through nginx and return the JSON answer; raises urllib.error.URLError."""
        data = json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            found: dict[str, object] = json.load(answer)
        return found

    def write_files(self, directory: Path, name: str = "p40-2x2") -> Path:
        """Write `cluster.toml`, `ssh_config`, `known_hosts` and `key`; returns the cluster file."""
        self.run.keys.write(directory)
        lines = [f'name = "{name}"', 'ssh_config = "ssh_config"', 'known_hosts = "known_hosts"', ""]
        for node in self.machines:
            lines += ["[[node]]", f'name = "{node}"']
            url = self._http_only.get(node)
            lines += [f'url = "{url}"' if url else f'ssh = "{node}"', ""]
        if "node1" in self.machines:
            lines += ["[balancer]", 'node = "node1"', 'kind = "nginx"']
            lines += ['upstream = "llama_cluster"', ""]
        path = directory / "cluster.toml"
        path.write_text("\n".join(lines))
        return path


def two_by_two(worker: Worker = GPU0, *, second_without_metrics: bool = False) -> Cluster:
    """The cluster of the field, made and off: see `power_on`.

    Both nodes' workers listen on 37081 and 37082; node1's nginx knows node2's as 37083 and 37084,
    which autossh brings there.
    """
    cluster = Cluster()
    try:
        first = replace(worker, unit=GPU0.unit, port=GPU0.port, gpus="0")
        second = replace(worker, unit=GPU1.unit, port=GPU1.port, gpus="1")
        if second_without_metrics:
            second = replace(second, metrics=False)
        node1 = cluster.add_node("node1", (first, second))
        node2 = cluster.add_node("node2", (first, second))
        put_tunnel(
            node1,
            node2,
            [Forward(37083, 37081), Forward(37084, 37082)],
            cluster.run.keys.known_hosts_text(),
        )
        put_balancer(node1, [f"127.0.0.1:{port}" for port in MEMBER_PORTS])
    except BaseException:
        cluster.close()
        raise
    return cluster


def _keep_up(directory: Path) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory.mkdir(parents=True, exist_ok=True)
    packages.install()
    with two_by_two() as cluster:
        cluster.power_on()
        cluster.wait_serving()
        path = cluster.write_files(directory)
        print(f"llamatop -c {path}")
        print(f"ssh -F {directory.absolute() / 'ssh_config'} node1    (also node1-ops, node1-root)")
        print(f"requests: {cluster.url}/completion")
        for name, machine in cluster.machines.items():
            print(f"{name}: {machine.address}, its files: {machine.root}")
        print("Ctrl-C takes it down", flush=True)
        with suppress(KeyboardInterrupt):
            signal.pause()
        # A second Ctrl-C may not stop the removal half-way.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
    return 0


def main(arguments: Sequence[str]) -> int:
    """`up DIR`: boot, write DIR's files, wait for Ctrl-C or SIGTERM, remove everything."""
    reason = packages.why_not()
    if len(arguments) != 2 or arguments[0] != "up" or reason:
        print(reason or "usage: python -m tests.nodes.cluster up DIR", file=sys.stderr)
        return 2
    return _keep_up(Path(arguments[1]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
