"""The files that lead to the embedded cluster: what any llamatop command needs of it."""

from __future__ import annotations

import json
from pathlib import Path

from . import switches
from .keys import Key
from .shape import SSH_PORT, ClusterShape

NAMES = ("cluster.toml", "ssh_config", "key", "known_hosts", switches.NAME)


def write(
    directory: Path, cluster: ClusterShape, client: Key, hosts: dict[str, Key], jump: Key
) -> None:
    """Write all of them; the key is for its owner alone, and cluster.toml comes last."""
    private = directory / "key"
    private.unlink(missing_ok=True)
    private.touch(mode=0o600)
    private.write_text(client.private)
    known = [(node.address, hosts[node.name]) for node in cluster.nodes if node.ssh]
    if cluster.jump:
        known.append((cluster.jump, jump))
    (directory / "known_hosts").write_text(
        "".join(f"[{address}]:{SSH_PORT} {key.public}\n" for address, key in known)
    )
    (directory / "ssh_config").write_text(ssh_config(directory, cluster))
    (directory / "cluster.toml").write_text(cluster_file(cluster))


def ssh_config(directory: Path, cluster: ClusterShape) -> str:
    """What ssh needs to find the machines and to trust them."""
    blocks = [
        f"Host {_quoted(node.name)}\n    HostName {node.address}\n"
        + ("    ProxyJump jump\n" if cluster.jump else "")
        for node in cluster.nodes
        if node.ssh
    ]
    if cluster.jump:
        blocks.append(f"Host jump\n    HostName {cluster.jump}\n")
    return (
        "\n".join(blocks)
        + "\nHost *\n"
        + f"    Port {SSH_PORT}\n    User ops\n"
        + f'    IdentityFile "{directory}/key"\n    IdentitiesOnly yes\n    IdentityAgent none\n'
        + f'    UserKnownHostsFile "{directory}/known_hosts"\n'
        + "    GlobalKnownHostsFile /dev/null\n    StrictHostKeyChecking yes\n"
    )


def cluster_file(cluster: ClusterShape) -> str:
    """The cluster file, as an operator would write it."""
    text = f"name = {_quoted(cluster.name)}\n"
    text += 'ssh_config = "ssh_config"\nknown_hosts = "known_hosts"\n'
    for node in cluster.nodes:
        text += f"\n[[node]]\nname = {_quoted(node.name)}\n"
        if node.ssh:
            text += f"ssh = {_quoted(node.name)}\n"
        else:
            text += f'url = "http://{node.address}:{node.workers[0].port}"\n'
        if node.units:
            text += f"units = {_quoted(list(node.units))}\n"
        for worker in node.workers:
            if worker.key_variable is not None and node.ssh:
                text += f'\n[[node.worker]]\nunit = "{worker.unit.removesuffix(".service")}"\n'
                text += f'api_key_env = "{worker.key_variable}"\n'
    if cluster.balancer:
        text += f'\n[balancer]\nnode = {_quoted(cluster.balancer)}\nkind = "nginx"\n'
        text += f'upstream = "{cluster.upstream}"\n'
    return text


def _quoted(value: object) -> str:
    """As both TOML and ssh's configuration read it: names in any script."""
    return json.dumps(value, ensure_ascii=False)
