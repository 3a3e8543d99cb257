"""A file of nginx's changed whole: the new text swapped in, the old one beside it until the end."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from .running import Failed, must, run, say

# A rename marks both files at once, but not in one instant.
_AT_ONCE_SECONDS = 1.0
# As commands in the C locale say it.
_FULL = ("No space left on device", "Disk quota exceeded")


def commands(target: str) -> dict[str, list[str]]:
    """Every command that changes `target`, by what it is for; the plan shows these very ones.

    The new text and the old stand beside it under hidden names: no include glob matches a
    leading dot, and a rename stays on one file system. The old one is kept as a second name of
    the very file, so that there is never half of it.
    """
    directory, name = os.path.split(target)
    old = os.path.join(directory, ".%s.llamatop-old" % name)
    new = os.path.join(directory, ".%s.llamatop-new" % name)
    return {
        "keep": ["ln", "-T", "--", target, old],
        "copy": ["cp", "-a", "-T", "--", target, new],
        "fill": ["dd", "of=" + new, "conv=fsync", "status=none"],
        "swap": ["mv", "-f", "-T", "--", new, target],
        "back": ["mv", "-f", "-T", "--", old, target],
        "tidy": ["rm", "-f", "--", new, old],
    }


def digest(path: str, sudo: list[str]) -> str:
    """SHA-256 of the file's bytes."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except PermissionError:
        data = must("read", [*sudo, "cat", "--", path])
    except OSError as error:
        raise Failed("read", "%s: %s" % (path, error.strerror)) from error
    return hashlib.sha256(data).hexdigest()


class Files:
    """The files of one transaction; every change to them holds the lock's descriptor."""

    def __init__(self, sudo: list[str], lock: int) -> None:
        self.written: list[str] = []
        self._sudo = sudo
        self._lock = lock

    def write(self, file: dict[str, str]) -> None:
        """The new text in the place of the old, which stays beside it until all is confirmed."""
        target = file["target"]
        todo = {what: self._sudo + argv for what, argv in commands(target).items()}
        new = todo["swap"][-2]
        try:
            must("write", todo["keep"], lock=self._lock)
            must("write", todo["copy"], lock=self._lock)
            must("write", todo["fill"], file["text"].encode("latin-1"), self._lock)
            if digest(new, self._sudo) != file["after"]:
                raise Failed("write", "%s does not hold what was written" % new)
            if digest(target, self._sudo) != file["before"]:
                raise Failed("changed", "%s was changed by another hand just now" % target)
            must("write", todo["swap"], lock=self._lock)
        except Failed as failure:
            self._do(target, "tidy")
            raise _no_space(failure, target) or failure from failure
        self.written.append(target)
        _flush(os.path.dirname(target))
        say("written", file=target)

    def restore(self) -> list[str]:
        """Every written file as it was; the names of those that could not be put back."""
        return [target for target in self.written if not self._do(target, "back")]

    def tidy(self) -> None:
        """Forget the old texts: the new ones serve."""
        for target in self.written:
            self._do(target, "tidy")

    def repair(self, targets: list[str], test: list[str]) -> None:
        """Clear up after a transaction that was killed, before anything else is done.

        What it had not swapped in yet is removed. What it had stays where nginx takes it; else
        the old file comes back, unless another hand has changed the new one since.
        """
        left = {target: what for target in targets for what in [leftover(target)] if what}
        if not left:
            return
        back = []
        if "swapped" in left.values() and run(test)[0] != 0:
            back = [target for target, what in left.items() if what == "swapped"]
        for target in left:
            if not self._do(target, "back" if target in back else "tidy"):
                raise Failed(
                    "repair",
                    "what a killed change left beside %s cannot be cleared away" % target,
                )
            _flush(os.path.dirname(target))
        say("repaired", tidied=sorted(set(left) - set(back)), put_back=back)

    def _do(self, target: str, what: str) -> bool:
        return run(self._sudo + commands(target)[what], lock=self._lock)[0] == 0


def _no_space(failure: Failed, target: str) -> Failed | None:
    """The same in words that name the place and the mend, None for any other failure."""
    said = str(failure)
    if not any(words in said for words in _FULL):
        return None
    return Failed(
        failure.step,
        "no space is left for the new text beside %s, which is as it was: free some there"
        " (`df -h %s` shows it, with -i the file names) and try again"
        % (target, os.path.dirname(target)),
    )


def leftover(target: str) -> str | None:
    """What a killed transaction left beside `target`, None for nothing.

    "partial": the file itself is as it was. "swapped": it holds the new text, which nobody has
    tested. "edited": it did, and another hand has changed it since.
    """
    old, new = commands(target)["tidy"][-1], commands(target)["tidy"][-2]
    if not os.path.lexists(old):
        return "partial" if os.path.lexists(new) else None
    try:
        now, was = os.stat(target), os.lstat(old)
    except OSError as error:
        raise Failed("repair", "%s: %s" % (target, error.strerror)) from error
    if os.path.samestat(now, was) or os.path.lexists(new):
        return "partial"
    # The swap was the last that happened to either of them, and both have that time.
    return "swapped" if abs(now.st_ctime - was.st_ctime) < _AT_ONCE_SECONDS else "edited"


def check(request: dict[str, Any]) -> list[dict[str, str]]:
    """The files that still have to be written; raises Failed where another hand was quicker."""
    todo = []
    for file in request["files"]:
        if os.path.realpath(file["path"]) != file["target"]:
            raise Failed("changed", "%s no longer leads to %s" % (file["path"], file["target"]))
        if file["before"] == file["after"]:
            continue
        now = digest(file["target"], request["sudo"])
        if now == file["before"]:
            todo.append(file)
        elif now != file["after"]:
            raise Failed(
                "changed", "%s was changed after the plan was made; make it again" % file["target"]
            )
    return todo


def _flush(directory: str) -> None:
    """Have the directory's new names outlive a power cut."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        pass
