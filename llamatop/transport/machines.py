"""The machines of a cluster: one for each node, each with its one connection."""

from __future__ import annotations

import asyncio
from pathlib import Path

from llamatop.errors import NodeError
from llamatop.model.declared import Cluster, Node

from .base import Machine
from .deliveries import Deliveries
from .local import LocalMachine
from .turns import Turns


class Machines:
    """Every node's machine, made on first use and kept.

    `ssh_config` and `known_hosts` are files that take the place of the cluster's (the options
    --ssh-config and --known-hosts), which in turn take the place of the person's own.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        ssh_config: Path | None = None,
        known_hosts: Path | None = None,
    ) -> None:
        self._cluster = cluster
        self._ssh_config = ssh_config or cluster.ssh_config
        self._known_hosts = known_hosts or cluster.known_hosts
        self._machines: dict[str, Machine] = {}
        self._turns = Turns()
        self._deliveries = Deliveries()

    def machine(self, node_name: str) -> Machine:
        """The machine behind a node; raises KeyError without it, NodeError without ssh."""
        known = self._machines.get(node_name)
        if known is None:
            known = self._make(self._cluster.node(node_name))
            self._machines[node_name] = known
        return known

    def begin(self, node_name: str) -> None:
        """Begin to connect to a node by ssh, for whoever uses it next; else nothing."""
        if self._cluster.node(node_name).ssh not in (None, "local"):
            from .ssh import SshMachine

            machine = self.machine(node_name)
            assert isinstance(machine, SshMachine)
            machine.begin()

    def _make(self, node: Node) -> Machine:
        if node.ssh is None:
            raise NodeError(
                node.name,
                "it has no ssh and is read by HTTP alone",
                'add ssh = "HOST" to it in a cluster file to reach the machine',
            )
        if node.ssh == "local":
            return LocalMachine(node.name)
        # paramiko takes a tenth of a second to import, and a local cluster never needs it
        from .ssh import SshMachine

        return SshMachine(
            node.name,
            node.ssh,
            ssh_config=self._ssh_config,
            known_hosts=self._known_hosts,
            turns=self._turns,
            deliveries=self._deliveries,
        )

    async def close(self) -> None:
        """Close every connection; safe to call twice."""
        await asyncio.gather(*(machine.close() for machine in self._machines.values()))
