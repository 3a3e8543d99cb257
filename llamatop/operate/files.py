"""The balancer's files as a plan goes on changing them: read once, edited here, never there."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from llamatop import nginx
from llamatop.errors import LlamatopError, NodeError
from llamatop.model.plan import Command, FileChange, MembershipEdit
from llamatop.transport.base import Machine

from .live import Fleet, ask

Member = tuple[str, str]


def digest(data: bytes) -> str:
    """SHA-256 in hex; same as `sha256sum`."""
    return hashlib.sha256(data).hexdigest()


class BalancerFiles:
    """Files with members, by the path nginx opens them by; edits pile up as the plan grows."""

    def __init__(self, node: str, texts: dict[str, bytes], targets: dict[str, str]) -> None:
        self.node = node
        self._texts = texts
        self._targets = targets

    @classmethod
    async def read(
        cls, machines: Fleet, node: str, paths: Iterable[str], sudo: tuple[str, ...]
    ) -> BalancerFiles:
        """Fetch the bytes now, as `cat`, and where links lead, as `readlink -f`.

        Raises NodeError where a file cannot be read.
        """
        return await cls.fetch(machines.machine(node), paths, sudo)

    @classmethod
    async def fetch(
        cls, machine: Machine, paths: Iterable[str], sudo: tuple[str, ...]
    ) -> BalancerFiles:
        """The same from a machine at hand."""
        node = machine.name

        async def one(path: str) -> tuple[str, bytes, str]:
            linked = await ask(machine, Command(("readlink", "-e", "-n", "--", path)))
            target = linked.stdout.decode("utf-8", "surrogateescape")
            if linked.status != 0 or not target:
                raise NodeError(node, f"{path} leads to no file", "see `nginx -t` there")
            cat = ("cat", "--", target)
            done = await ask(machine, Command(cat))
            if done.status != 0 and sudo:
                done = await ask(machine, Command((*sudo, *cat)))
            if done.status != 0:
                why = done.stderr.decode("utf-8", "replace").strip().splitlines()
                raise NodeError(node, f"{target} cannot be read: {why[-1] if why else done.status}")
            return path, done.stdout, target

        got = await asyncio.gather(*(one(path) for path in dict.fromkeys(paths)))
        return cls(
            node,
            {path: data for path, data, _ in got},
            {path: target for path, _, target in got},
        )

    def down(self, file: str, member: Member) -> bool | None:
        """Whether the member's server line is marked down now, None where it is not in the file."""
        lines = nginx.lines_of(self._texts[file], file, member[0])
        found = [line.down for line in lines if line.address == member[1]]
        return all(found) if found else None

    def change(
        self,
        members: dict[str, list[Member]],
        down: bool,
        texts: Mapping[Member, Mapping[str, str]] = MappingProxyType({}),
    ) -> tuple[tuple[MembershipEdit, ...], tuple[FileChange, ...], str]:
        """Mark members (by file) down or up; the edits, the whole files, and the exact diff.

        A member's `texts` say how its line is to stand, by how it stands; see `nginx.rewrite`.
        Raises KeyError where a file has no such server line.
        """
        edits: list[MembershipEdit] = []
        changes: dict[str, FileChange] = {}
        for file, wanted in members.items():
            before = after = self._texts[file]
            for upstream in dict.fromkeys(upstream for upstream, _ in wanted):
                addresses = tuple(address for name, address in wanted if name == upstream)
                lines: list[tuple[str, str, str]] = []
                for address in addresses:
                    stood = nginx.written(after, upstream, address, file)
                    wanted_texts = texts.get((upstream, address), {})
                    after = nginx.rewrite(after, upstream, address, wanted_texts, file)
                    after = nginx.edit(after, upstream, address, down, file)
                    stands = nginx.written(after, upstream, address, file)
                    lines += [(address, *pair) for pair in zip(stood, stands, strict=True)]
                edits.append(
                    MembershipEdit(
                        self._targets[file], digest(before), upstream, addresses, down, tuple(lines)
                    )
                )
            if after != before:
                changes[file] = FileChange(file, self._targets[file], before, after)
                self._texts[file] = after
        diff = "".join(
            nginx.diff(change.target, change.before, change.after) for change in changes.values()
        )
        return tuple(edits), tuple(changes.values()), diff

    def add(
        self, wanted: Mapping[str, Sequence[tuple[str, str, str]]]
    ) -> tuple[tuple[MembershipEdit, ...], tuple[FileChange, ...]]:
        """Server lines of their own, by file: (upstream, beside which address, address).

        Raises KeyError where a file has no line of the address beside which it is to stand.
        """

        def edited(data: bytes, file: str, member: tuple[str, str, str]) -> bytes:
            return nginx.add(data, *member, file)

        return self._lines(wanted, edited, down=False)

    def remove(
        self, wanted: Mapping[str, Sequence[tuple[str, str, str]]]
    ) -> tuple[tuple[MembershipEdit, ...], tuple[FileChange, ...]]:
        """The same lines taken away again; one that is gone already is no matter."""

        def edited(data: bytes, file: str, member: tuple[str, str, str]) -> bytes:
            return nginx.remove(data, member[0], member[2], file)

        return self._lines(wanted, edited, down=True)

    def _lines(
        self,
        wanted: Mapping[str, Sequence[tuple[str, str, str]]],
        edited: Callable[[bytes, str, tuple[str, str, str]], bytes],
        down: bool,
    ) -> tuple[tuple[MembershipEdit, ...], tuple[FileChange, ...]]:
        edits: list[MembershipEdit] = []
        changes: list[FileChange] = []
        for file, members in wanted.items():
            before = after = self._texts[file]
            target = self._targets[file]
            for upstream, beside, address in members:
                stood = "".join(nginx.written(after, upstream, address, file))
                after = edited(after, file, (upstream, beside, address))
                stands = "".join(nginx.written(after, upstream, address, file))
                line = (address, stood, stands)
                edits.append(
                    MembershipEdit(
                        target, digest(before), upstream, (address,), down, (line,), beside
                    )
                )
            if after != before:
                changes.append(FileChange(file, target, before, after))
                self._texts[file] = after
        return tuple(edits), tuple(changes)

    @property
    def targets(self) -> tuple[str, ...]:
        """Where the files lie, links followed."""
        return tuple(dict.fromkeys(self._targets.values()))

    def unchanged(self, targets: Iterable[str]) -> tuple[FileChange, ...]:
        """These files as they are: a change that changes nothing."""
        wanted = set(targets)
        return tuple(
            FileChange(path, target, self._texts[path], self._texts[path])
            for path, target in self._targets.items()
            if target in wanted
        )

    def anew(
        self, changes: Iterable[FileChange], edits: Iterable[MembershipEdit]
    ) -> tuple[FileChange, ...]:
        """The same edits in the files as they are now; each changed elsewhere by another hand.

        Raises Moved where a server line itself is another one now, or a link leads elsewhere.
        """
        found = []
        for change in changes:
            now, target = self._texts[change.path], self._targets[change.path]
            if target != change.target:
                raise Moved(f"{change.path} leads to {target} now, no longer to {change.target}")
            after = now
            for edit in edits:
                if edit.file != change.target:
                    continue
                if edit.beside:
                    after = _own_line(after, edit, change)
                    continue
                for address in edit.addresses:
                    _same_line(change, now, edit.upstream, address)
                    texts = {stood: stands for at, stood, stands in edit.lines if at == address}
                    after = nginx.rewrite(after, edit.upstream, address, texts, change.path)
                    after = nginx.edit(after, edit.upstream, address, edit.down, change.path)
            found.append(FileChange(change.path, target, now, after))
        return tuple(found)


class Moved(LlamatopError):
    """What a plan was to edit was changed by another hand; the text names file and line."""


def together(
    *parts: tuple[FileChange, ...],
) -> tuple[tuple[FileChange, ...], str]:
    """Changes made one after another to the same files as one, with the exact diff."""
    found: dict[str, FileChange] = {}
    for change in (change for part in parts for change in part):
        first = found.get(change.path, change)
        found[change.path] = FileChange(change.path, change.target, first.before, change.after)
    changed = tuple(change for change in found.values() if change.before != change.after)
    return changed, "".join(nginx.diff(c.target, c.before, c.after) for c in changed)


def _own_line(data: bytes, edit: MembershipEdit, change: FileChange) -> bytes:
    """A line of its own put in or taken away in the file as it is now; raises Moved."""
    for address in edit.addresses:
        if edit.down:
            data = nginx.remove(data, edit.upstream, address, change.path)
            continue
        try:
            data = nginx.add(data, edit.upstream, edit.beside, address, change.path)
        except KeyError as error:
            raise Moved(f"{error.args[0]} any more, beside which {address} was to stand") from error
    return data


def _same_line(change: FileChange, now: bytes, upstream: str, address: str) -> None:
    """Raise Moved where the server line has other parameters now, `down` aside."""
    lines = [
        [line for line in nginx.lines_of(data, change.path, upstream) if line.address == address]
        for data in (change.before, now)
    ]
    words = [
        [[word.value for word in line.parameters if word.value != "down"] for line in each]
        for each in lines
    ]
    if words[0] == words[1]:
        return
    if not lines[1]:
        place = f"{change.target}:{lines[0][0].line}" if lines[0] else change.target
        raise Moved(f"{place}: server {address} of {upstream} was taken away by another hand")
    raise Moved(
        f"{change.target}:{lines[1][0].line}: server {address} of {upstream} itself was changed"
        " by another hand; look at it and make the plan again"
    )
