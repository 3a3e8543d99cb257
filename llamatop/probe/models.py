"""The headers of the models' files, read on a thread of its own: a slow disk delays no line."""

from __future__ import annotations

import os
import threading
import time

from llamatop.engines import gguf

from . import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Tuple

    # a path, and a process that a relative one is relative to
    Place = Tuple[str, int | None]

# how often the files are looked at again for another size or time
_AGAIN_SECONDS = 60.0
_SLOW_SECONDS = 30.0
# work and rest take turns, so that a header costs a share of a core and not a whole one
_WORK_SECONDS = 0.004
_REST_SECONDS = 0.04


class Models:
    """ModelFile fields by the path that the workers were started with."""

    def __init__(self) -> None:
        self._wanted: Dict[str, str] = {}
        self._read: Dict[str, Tuple[Any, Dict[str, Any]]] = {}
        self._asked = threading.Event()
        self._thread: Any = None
        self._began: Tuple[str, float] | None = None
        self._worked_at = 0.0

    def want(self, paths: Dict[str, Place]) -> None:
        """The models of all workers, by what these were started with."""
        wanted = {}
        for told, (path, pid) in paths.items():
            place: str | None = path
            if path[:1] != "/":
                directory = None if pid is None else _directory(pid)
                place = None if directory is None else os.path.join(directory, path)
            wanted[told] = "" if place is None else procfs.FILES + place
        if wanted == self._wanted:
            return
        self._wanted = wanted
        self._asked.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="models", daemon=True)
            self._thread.start()

    def sample(self) -> Dict[str, Any]:
        """What is known by now; a file that has been asked for too long says so."""
        known = dict(self._read)
        found = {
            path: known[path][1] if path in known else {"path": place or path, "reading": True}
            for path, place in self._wanted.items()
        }
        began = self._began
        if began is not None and time.monotonic() - began[1] > _SLOW_SECONDS:
            path = began[0]
            if path in self._wanted and path not in known:
                found[path] = _fault(path, "its disk has not answered for a while")
        return found

    def _run(self) -> None:
        """The thread: every wanted file once, then again where it has changed."""
        while True:
            self._asked.wait(_AGAIN_SECONDS)
            self._asked.clear()
            for path, place in list(self._wanted.items()):
                self._began = (path, time.monotonic())
                self._look(path, place)
                self._began = None
            for path in [path for path in self._read if path not in self._wanted]:
                del self._read[path]

    def _look(self, path: str, place: str) -> None:
        known = self._read.get(path)
        try:
            if not place:
                raise gguf.HeaderError("its path is relative and where to is not known")
            parts = gguf.parts(place)
            marks = {part: _mark(part) for part in parts}
            if known is not None and known[0] == marks:
                return
            self._read[path] = (marks, self._summary(place[len(procfs.FILES) :], marks))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            if isinstance(error, PermissionError):
                reason = "this user may not read it"
            self._read[path] = (None, _fault(path, reason))
        except MemoryError:
            self._read[path] = (None, _fault(path, "out of memory"))
        except Exception as error:
            # whatever a file holds, the others are read
            self._read[path] = (None, _fault(path, str(error) or type(error).__name__))

    def _summary(self, path: str, marks: Dict[str, Tuple[int, float]]) -> Dict[str, Any]:
        found = gguf.summary([self._header(part, mark[0]) for part, mark in marks.items()])
        size = sum(mark[0] for mark in marks.values())
        return {"path": path, "files": len(marks), "size_bytes": size, **found}

    def _header(self, place: str, size: int) -> gguf.Header:
        self._worked_at = time.monotonic()
        with open(place, "rb", buffering=0) as file:

            def read(offset: int, count: int) -> bytes:
                file.seek(offset)
                return file.read(count) or b""

            return gguf.header(read, size, self._pause)

    def _pause(self) -> None:
        if time.monotonic() - self._worked_at > _WORK_SECONDS:
            time.sleep(_REST_SECONDS)
            self._worked_at = time.monotonic()


def _mark(place: str) -> Tuple[int, float]:
    """What changes when the file does; a pipe or a device is no model."""
    found = os.stat(place)
    if not 0o100000 <= found.st_mode < 0o110000:
        raise gguf.HeaderError("it is no ordinary file")
    return (found.st_size, found.st_mtime)


def mapped(pid: int) -> str | None:
    """The model that a process has in its memory; None where it has none or several, or is closed.

    Same as `grep gguf /proc/PID/maps`; a cache may keep the file under its digest.
    """
    found = set()
    for line in (procfs.try_read("%d/maps" % pid) or b"").splitlines():
        words = line.split(None, 5)
        path = procfs.text(words[5]) if len(words) == 6 else ""
        if path.endswith(".gguf") or "/blobs/" in path:
            found.add(gguf.parts(path)[0])
    return found.pop() if len(found) == 1 else None


def _directory(pid: int) -> str | None:
    try:
        return os.readlink("%s/%d/cwd" % (procfs.ROOT, pid))
    except OSError:
        return None


def _fault(path: str, reason: str) -> Dict[str, Any]:
    return {"path": path, "fault": "the model's header is not known: %s" % reason}
