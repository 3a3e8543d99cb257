"""nginx in front of the workers and the tunnels that bring far ones to its loopback."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from tests.nodes.keys import new_key
from tests.nodes.machine import Machine

UPSTREAM_FILE = "/etc/nginx/conf.d/llama_cluster.conf"
PORT = 8080

_NGINX = """upstream llama_cluster {{
    least_conn;
{servers}}}

server {{
    listen {port};

    location / {{
        proxy_pass http://llama_cluster;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_buffering off;
        proxy_read_timeout 600s;
        proxy_send_timeout 600s;
        proxy_next_upstream off;
        allow 198.18.0.0/15;
        allow 127.0.0.1;
        deny all;
        add_header X-Llama-Member $upstream_addr always;
    }}
}}
"""
_TUNNEL = """[Unit]
Description=llama-servers of {far}
After=network.target
StartLimitIntervalSec=0

[Service]
User=tunnel
Environment=AUTOSSH_GATETIME=0
Environment=AUTOSSH_POLL=10
ExecStart=/usr/bin/autossh -M 0 -N -o ServerAliveInterval=2 -o ServerAliveCountMax=2 \
-o ExitOnForwardFailure=yes -o ConnectTimeout=3 {forwards} {far}
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Forward:
    """A port of the balancer's loopback that leads to `far_port` of another node's loopback."""

    near_port: int
    far_port: int


def upstream_text(members: Sequence[str]) -> str:
    """The nginx file with these members (`address:port` and any parameters), in this order."""
    servers = "".join(f"    server {member};\n" for member in members)
    return _NGINX.format(servers=servers, port=PORT)


def put_balancer(machine: Machine, members: Sequence[str]) -> None:
    """Have a machine that is off serve the upstream `llama_cluster` on port 8080 from boot on."""
    machine.write(UPSTREAM_FILE, upstream_text(members))
    link = machine.root / "etc/systemd/system/multi-user.target.wants/nginx.service"
    link.unlink(missing_ok=True)
    link.symlink_to("/lib/systemd/system/nginx.service")


def tunnel_unit(far: Machine) -> str:
    """The name of the unit that tunnels to `far`."""
    return f"llama-tunnel-{far.name}.service"


def put_tunnel(near: Machine, far: Machine, forwards: Sequence[Forward], known_hosts: str) -> None:
    """Bring ports of `far` to the loopback of `near` with autossh; both are off."""
    home = near.root / "home/tunnel/.ssh"
    public = new_key(home / "id_ed25519", "tunnel")
    owner = (near.root / "home/tunnel").stat()
    near.write("/home/tunnel/.ssh/known_hosts", known_hosts)
    for file in home.iterdir():
        file.chmod(0o600)
        os.chown(file, owner.st_uid, owner.st_gid)
    far.write("/home/tunnel/.ssh/authorized_keys", public)
    near.write("/etc/hosts", near.read("/etc/hosts") + f"{far.address} {far.name}\n")
    flags = " ".join(f"-L {f.near_port}:127.0.0.1:{f.far_port}" for f in forwards)
    near.write(
        f"/etc/systemd/system/{tunnel_unit(far)}", _TUNNEL.format(far=far.name, forwards=flags)
    )
    near.enable(tunnel_unit(far))
