"""Who we are on a node, and whether sudo lets us do what a plan needs, before its first step."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from llamatop.errors import NodeError
from llamatop.model.plan import Command

from .live import Fleet, ask
from .rights import Rights

SUDO = ("sudo", "-n")
# One session for all: sshd lets a connection have ten.
LISTING = Command(("env", "LC_ALL=C", *SUDO, "-ll"))
_AT_ONCE = 4


class Privileges:
    """One connection's rights, found once a node: root, or `sudo -n` a command at a time.

    Where there is no sudo commands run as they are: polkit may allow systemctl.
    """

    def __init__(self, machines: Fleet) -> None:
        self._machines = machines
        self._prefixes: dict[str, tuple[str, ...]] = {}
        self._granted: dict[str, set[Command]] = {}
        self._without_sudo: set[str] = set()

    async def prefix(self, node: str) -> tuple[str, ...]:
        """What stands before a command that changes the node: `sudo -n`, nothing for root."""
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
            self._prefixes[node] = () if uid == b"0" else await self._sudo(node)
        return self._prefixes[node]

    async def _sudo(self, node: str) -> tuple[str, ...]:
        done = await ask(self._machines.machine(node), Command(("sh", "-c", "command -v sudo")))
        if done.status == 0:
            return SUDO
        self._without_sudo.add(node)
        return ()

    def by_polkit(self, node: str) -> bool:
        """Whether polkit decides there: it tells no ordinary user beforehand what it will say."""
        return node in self._without_sudo

    async def check(self, node: str, commands: Iterable[Command]) -> None:
        """Raise NodeError with the mend where sudo would refuse, or ask a password for, a command.

        Same as reading `sudo -n -ll`: that a command may be run is not that it asks no password,
        which `sudo -n -l COMMAND` does not tell.
        """
        commands = list(dict.fromkeys(commands))
        if node in self._without_sudo:
            self._only_systemctl(node, commands)
            return
        granted = self._granted.setdefault(node, set())
        wanted = [c for c in commands if c.argv[:2] == SUDO and c not in granted]
        missing, why = await self.refused(node, [Command(c.argv[2:]) for c in wanted])
        if missing:
            raise _missing(node, missing, why)
        granted.update(wanted)

    async def refused(self, node: str, commands: list[Command]) -> tuple[list[Command], str]:
        """Which commands, given without `sudo -n`, sudo refuses there, and in which words."""
        if not commands:
            return [], ""
        done = await ask(self._machines.machine(node), LISTING)
        if done.status != 0:
            words = done.stderr.decode("utf-8", "replace").strip().splitlines()
            return commands, words[-1] if words else "no message"
        rights = Rights.parse(done.stdout.decode("utf-8", "replace"))
        missing = rights.missing(commands) if rights else await self._each(node, commands)
        return missing, "not in its sudoers with NOPASSWD"

    async def _each(self, node: str, commands: list[Command]) -> list[Command]:
        """What a sudo that lists its rights otherwise refuses, asked a few at a time."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def refuses(command: Command) -> bool:
            async with gate:
                machine = self._machines.machine(node)
                return (await ask(machine, Command((*SUDO, "-l", *command.argv)))).status != 0

        answers = await asyncio.gather(*(refuses(command) for command in commands))
        return [command for command, no in zip(commands, answers, strict=True) if no]

    @staticmethod
    def _only_systemctl(node: str, commands: list[Command]) -> None:
        """Without sudo polkit may let systemctl through; nothing lets nginx's files be written."""
        for command in commands:
            if command.argv[0] != "systemctl":
                raise NodeError(
                    node,
                    f"`{command}` needs root, and there is no sudo: polkit can allow systemctl"
                    " alone, so nothing was begun",
                    "apt-get install sudo and see `llamatop sudoers --user USER`,"
                    " or connect as root",
                )


def _missing(node: str, commands: list[Command], why: str) -> NodeError:
    made = any("/etc/systemd/" in command.argv[-1] for command in commands)
    option = " --write-units" if made else ""
    others = f" and {len(commands) - 1} more" if len(commands) > 1 else ""
    return NodeError(
        node,
        f"sudo does not let you run `{commands[0]}`{others} without a password ({why}),"
        " so nothing was begun",
        f"`llamatop sudoers --user USER{option}` prints what to allow; or connect as root",
    )
