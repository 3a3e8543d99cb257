"""Who we are on a node, and whether sudo lets us do what a plan needs, before its first step."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from llamatop.errors import NodeError
from llamatop.model.plan import Command

from .live import Fleet, ask

SUDO = ("sudo", "-n")


class Privileges:
    """One connection's rights, found once a node: root, or `sudo -n` a command at a time."""

    def __init__(self, machines: Fleet) -> None:
        self._machines = machines
        self._prefixes: dict[str, tuple[str, ...]] = {}
        self._granted: dict[str, set[Command]] = {}

    async def prefix(self, node: str) -> tuple[str, ...]:
        """What stands before a command that changes the node: nothing for root, else `sudo -n`."""
        if node not in self._prefixes:
            done = await ask(self._machines.machine(node), Command(("id", "-u")))
            uid = done.stdout.strip()
            if uid[-1:].isdigit() and not uid.isdigit():
                # what it prints would stand in every file that is read
                raise NodeError(
                    node,
                    "its shell prints text before what a command prints",
                    "let the login shell's start-up files print nothing without a terminal",
                )
            if done.status != 0 or not uid.isdigit():
                raise NodeError(node, "`id -u` gives no user id", "log in there and try it")
            self._prefixes[node] = () if uid == b"0" else SUDO
        return self._prefixes[node]

    async def check(self, node: str, commands: Iterable[Command]) -> None:
        """Raise NodeError with the mend where sudo would refuse, or ask a password for, a command.

        Same as `sudo -n -l COMMAND` for each that begins with `sudo -n`.
        """
        granted = self._granted.setdefault(node, set())
        wanted = [c for c in dict.fromkeys(commands) if c.argv[:2] == SUDO and c not in granted]
        machine = self._machines.machine(node)

        async def allowed(command: Command) -> str | None:
            done = await ask(machine, Command((*SUDO, "-l", *command.argv[2:])))
            if done.status == 0:
                granted.add(command)
                return None
            return done.stderr.decode("utf-8", "replace").strip() or "not in the sudoers"

        answers = await asyncio.gather(*(allowed(command) for command in wanted))
        for command, answer in zip(wanted, answers, strict=True):
            if answer is not None:
                missing = Command(command.argv[2:])
                raise NodeError(
                    node,
                    f"sudo does not let you run `{missing}` without a password"
                    f" ({answer.splitlines()[-1]}), so nothing was begun",
                    "allow it with NOPASSWD in the sudoers, or connect as root",
                )
