"""The balancer's files as a plan goes on changing them: read once, edited here, never there."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable

from llamatop import nginx
from llamatop.errors import NodeError
from llamatop.model.plan import Command, FileChange, MembershipEdit

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
        machine = machines.machine(node)

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
        found = [
            m.down
            for m in nginx.members_of(self._texts[file], file, member[0])
            if m.address == member[1]
        ]
        return all(found) if found else None

    def change(
        self, members: dict[str, list[Member]], down: bool
    ) -> tuple[tuple[MembershipEdit, ...], tuple[FileChange, ...], str]:
        """Mark members (by file) down or up; the edits, the whole files, and the exact diff.

        Raises KeyError where a file has no such server line.
        """
        edits: list[MembershipEdit] = []
        changes: dict[str, FileChange] = {}
        for file, wanted in members.items():
            before = after = self._texts[file]
            for upstream in dict.fromkeys(upstream for upstream, _ in wanted):
                addresses = tuple(address for name, address in wanted if name == upstream)
                for address in addresses:
                    after = nginx.edit(after, upstream, address, down, file)
                target = self._targets[file]
                edits.append(MembershipEdit(target, digest(before), upstream, addresses, down))
            if after != before:
                changes[file] = FileChange(file, self._targets[file], before, after)
                self._texts[file] = after
        diff = "".join(
            nginx.diff(change.target, change.before, change.after) for change in changes.values()
        )
        return tuple(edits), tuple(changes.values()), diff
