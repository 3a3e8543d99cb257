"""The smallest sudoers fragment that lets a user carry out the plans of one node."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from llamatop.collect import journal
from llamatop.errors import NodeError, UsageError
from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.plan import Command, Verb
from llamatop.model.text import plain

from . import membership, reloading, systemd, unit_files
from .audit import who
from .live import Fleet, ask
from .newcomers import possible
from .onnode import membership as onnode
from .privilege import SUDO
from .unit_facts import UNITS

_USER = re.compile(r"%?[A-Za-z_][A-Za-z0-9_.-]*\$?")
# sudo's own path where its configuration names none, and that of every distribution's.
_FIND = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin;"
    ' for name do command -v "$name" || echo; done'
)
_VERBS: tuple[Verb, ...] = ("start", "stop", "restart", "enable", "disable")
_DUMP = Command(("nginx", "-T"))
_WATCHED = ("worker", "tunnel", "nginx")


class Needs(Struct, frozen=True):
    """What a user needs on one node, in groups: why, and the commands as plans give them."""

    node: str
    groups: tuple[tuple[str, tuple[Command, ...]], ...]

    @property
    def commands(self) -> tuple[Command, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys(c for _, group in self.groups for c in group))

    @property
    def of_plans(self) -> tuple[Command, ...]:
        """Those that change something: without the others one reads less."""
        return tuple(
            command
            for command in self.commands
            if command.argv[0] != "journalctl" and command != _DUMP
        )

    @property
    def writes_units(self) -> bool:
        """Whether they write files of systemd."""
        return any(command.argv[0] == "install" for command in self.commands)

    @property
    def edits_nginx(self) -> bool:
        """Whether they write files of nginx."""
        return any(command.argv[0] == "dd" for command in self.commands)


async def needs(
    snapshot: ClusterSnapshot, machines: Fleet, node: str, *, write_units: bool = False
) -> Needs:
    """What plans and reading need on the node, from what it shows now.

    With `write_units` also what split and unsplit need for the units that they would make now.

    Raises NodeError where it cannot be asked where its files lie.
    """
    view = snapshot.node(node)
    groups: list[tuple[str, tuple[Command, ...]]] = []
    if node == snapshot.balancer_node and snapshot.balancer is not None:
        groups += await _balancer(snapshot, machines, node)
    units = [unit for unit in view.snapshot.units.values() if unit.kind in _WATCHED]
    for unit in units:
        commands = [systemd.command(verb, unit.name) for verb in _VERBS]
        groups.append((f"start and stop {unit.name}", tuple(commands)))
    if units:
        reload = Command(("systemctl", "--no-ask-password", "daemon-reload"))
        groups.append(("have systemd read changed unit files", (reload,)))
        journals = [c for unit in units for c in journal.permitted(unit.name)]
        groups.append(("read the units' journals", tuple(journals)))
    if write_units:
        machine = machines.machine(node)
        names = await possible(snapshot, machine)
        # recover takes away what one that was cut off had written.
        with contextlib.suppress(membership.MembershipFailed):
            for begun in await membership.reshapes(machine, f"{who()}: sudoers"):
                made = begun.reshapings if begun.own else ()
                names += [n.unit for one in made for n in one.news if n.digest]
        for name in dict.fromkeys(names):
            path = f"{UNITS}/{name}"
            commands = [*unit_files.writing(path), *unit_files.removing(path)]
            commands += [systemd.command(verb, name) for verb in _VERBS if verb != "restart"]
            commands += journal.permitted(name)
            groups.append((f"make, run and remove {name}", tuple(commands)))
    return Needs(node, tuple(groups))


async def _balancer(
    snapshot: ClusterSnapshot, machines: Fleet, node: str
) -> list[tuple[str, tuple[Command, ...]]]:
    balancer = snapshot.balancer
    assert balancer is not None
    groups: list[tuple[str, tuple[Command, ...]]] = []
    targets: dict[str, None] = {}
    for path in dict.fromkeys(member.file for member in balancer.members or () if member.file):
        done = await ask(machines.machine(node), Command(("readlink", "-e", "-n", "--", path)))
        target = done.stdout.decode("utf-8", "surrogateescape")
        if done.status != 0 or not target:
            raise NodeError(node, f"{path} leads to no file", "see `nginx -t` there")
        targets[target] = None
    for target in targets:
        argvs = onnode.commands(target)
        groups.append((f"mark members of {target} down and up", _commands(argvs.values())))
    own = snapshot.cluster.balancer
    both = (reloading.test(own, SUDO), reloading.reload(own, balancer.unit, SUDO))
    by_sudo = [command.argv[len(SUDO) :] for command in both if command.argv[:2] == SUDO]
    groups.append(("test and reload nginx", _commands(by_sudo)))
    groups.append(("read nginx's configuration as nginx does", (_DUMP,)))
    return groups


async def fragment(machines: Fleet, needed: Needs, user: str) -> str:
    """The text for a file in /etc/sudoers.d on the node; it ends with a newline.

    Raises UsageError for what is no user, NodeError where a command is not on the node's path or
    a name cannot stand in a sudoers file.
    """
    if not _USER.fullmatch(user):
        raise UsageError(f"{plain(user)} is no name of a user (%NAME for a group)")
    places = await _places(machines, needed)
    node = plain(needed.node)
    lines = [
        f"# What llamatop needs on {node} as user {user}: these commands and no others.",
        "# Keep it as /etc/sudoers.d/llamatop, owned by root, mode 0440; test it with visudo -cf.",
        "# It is made from what is there now: print it again when units or files change.",
    ]
    if needed.edits_nginx:
        lines += [
            "#",
            "# Whoever may edit nginx's configuration is as good as root on this machine: nginx",
            f"# starts as root and reads and loads what its files name. Give this to {user} only",
            "# if you would give root.",
        ]
    if needed.writes_units:
        lines += [
            "#",
            "# WHOEVER MAY WRITE A UNIT FILE IS ROOT ON THIS MACHINE: a unit runs anything as any",
            f"# user. With the lines of install and ln below {user} can become root at any time.",
            "# They are here because --write-units asked for them: `llamatop split` and `unsplit`",
            "# make units, nothing else does.",
        ]
    for why, commands in needed.groups:
        if not commands:
            continue
        lines += ["", f"# {plain(why)}"]
        for command in commands:
            words = [places[command.argv[0]], *command.argv[1:]]
            written = " ".join(_quoted(needed.node, word) for word in words)
            lines.append(f"{user} ALL = (root) NOPASSWD: {written}")
    return "\n".join(lines) + "\n"


async def _places(machines: Fleet, needed: Needs) -> dict[str, str]:
    names = list(dict.fromkeys(command.argv[0] for command in needed.commands))
    if not names:
        return {}
    done = await ask(machines.machine(needed.node), Command(("sh", "-c", _FIND, "sh", *names)))
    found = done.stdout.decode("utf-8", "replace").split("\n")[: len(names)]
    places = dict(zip(names, found, strict=False))
    for name in names:
        if not places.get(name, "").startswith("/"):
            raise NodeError(needed.node, f"{name} is not on its path, so it cannot be allowed")
    return places


def _commands(argvs: Iterable[Sequence[str]]) -> tuple[Command, ...]:
    return tuple(Command(tuple(argv)) for argv in argvs)


def _quoted(node: str, word: str) -> str:
    """A word that sudo matches with this very word alone."""
    if not word or not word.isprintable():
        raise NodeError(node, f"{plain(repr(word))} cannot stand in a sudoers file")
    out = []
    for sign in word:
        if sign == "\\":
            # once for the file, once for the pattern that it is
            out.append("\\" * 4)
        elif sign in ',:=# "*?[]!^':
            out.append("\\" + sign)
        else:
            out.append(sign)
    return "".join(out)
