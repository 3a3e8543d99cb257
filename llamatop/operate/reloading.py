"""How nginx is tested and reads its files again: systemd, nginx itself, or the operator's way."""

from __future__ import annotations

from llamatop.model.declared import Balancer
from llamatop.model.plan import Command

from . import systemd


def test(own: Balancer | None, sudo: tuple[str, ...]) -> Command:
    """`nginx -t` behind `sudo`, or the cluster file's own command as it is written."""
    return Command(own.test if own is not None and own.test else (*sudo, "nginx", "-t"))


def reload(own: Balancer | None, unit: str | None, sudo: tuple[str, ...]) -> Command:
    """`systemctl reload` where a unit runs nginx, else `nginx -s reload`; or the file's own."""
    if own is not None and own.reload:
        return Command(own.reload)
    return Command((*sudo, *systemd.reload_nginx(unit).argv))
