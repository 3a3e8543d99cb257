"""One writer at a time on a node, named, and gone with the process that held it."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from typing import Any

from .running import Failed


class Lock:
    """One writer at a time on this node; the lock of a dead holder is gone with it."""

    def __init__(self, directory: str | None, holder: str) -> None:
        # Everybody has to come to the same file: /run/lock where all may write, else /tmp.
        for place in [directory] if directory else ["/run/lock", "/tmp"]:  # noqa: S108
            self.path = os.path.join(place, "llamatop-membership.lock")
            if directory or (os.path.isdir(place) and os.stat(place).st_mode & 0o1002 == 0o1002):
                break
        self.holder = holder
        self.file = -1

    def take(self, seconds: float) -> None:
        """Wait for the lock; raises Failed naming the holder."""
        self.file = self._open()
        signal.signal(signal.SIGALRM, self._late)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX)
        except InterruptedError:
            holder = os.pread(self.file, 4096, 0).decode("utf-8", "replace").strip()
            os.close(self.file)
            self.file = -1
            raise Failed("lock", "locked by " + (holder or "somebody without a name")) from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        name = "%s (pid %d)" % (self.holder, os.getpid())
        os.ftruncate(self.file, 0)
        try:
            os.pwrite(self.file, name.encode("utf-8", "replace")[:4000], 0)
        except OSError:
            # A full disk: it is held all the same, by somebody without a name.
            pass

    def release(self) -> None:
        """Let the next one in."""
        if self.file >= 0:
            os.ftruncate(self.file, 0)
            os.close(self.file)
            self.file = -1

    def _open(self) -> int:
        # The kernel refuses O_CREAT on another's file in a sticky directory, so first without.
        for _ in range(3):
            try:
                return os.open(self.path, os.O_RDWR | os.O_NOFOLLOW)
            except FileNotFoundError:
                pass
            except OSError as error:
                raise Failed("lock", "%s: %s" % (self.path, error.strerror)) from error
            try:
                file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
                os.fchmod(file, 0o666)
                return file
            except FileExistsError:
                pass
            except OSError as error:
                mend = ""
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    mend = ": free some there (`df -h %s`)" % os.path.dirname(self.path)
                raise Failed("lock", "%s: %s%s" % (self.path, error.strerror, mend)) from error
        raise Failed("lock", self.path + " comes and goes")

    @staticmethod
    def _late(number: int, frame: Any) -> None:
        raise InterruptedError
