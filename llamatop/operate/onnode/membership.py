"""The membership transaction, run on the balancer by `python3 -c` with its source on stdin.

The request is one JSON line on stdin, the answer JSON lines on stdout, one for each thing done,
the last with "event" "done" or "failed". It runs in a session of its own and outlives ssh: a cut
connection leaves the old files or the new ones. Each change is a fixed command, so that `sudo -n`
can allow exactly these. Same as, for each file:

    cp -a TARGET .NAME.llamatop-old; cp -a TARGET .NAME.llamatop-new
    dd of=.NAME.llamatop-new conv=fsync <TEXT; mv .NAME.llamatop-new TARGET
    nginx -t && systemctl reload nginx || mv .NAME.llamatop-old TARGET
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

COMMAND_SECONDS = 60
# sbin is not on an ordinary user's path, but nginx is there.
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
PROC = os.environ.get("HOST_PROC", "/proc")


class Failed(Exception):
    """The transaction stops here; `step` says where, the text why."""

    def __init__(self, step: str, text: str) -> None:
        Exception.__init__(self, text)
        self.step = step


def say(event: str, **facts: Any) -> None:
    """One JSON line on stdout; nobody listening is no reason to stop."""
    facts["event"] = event
    try:
        os.write(1, (json.dumps(facts) + "\n").encode())
    except OSError:
        pass


def run(argv: list[str], data: bytes = b"") -> tuple[int, bytes, str]:
    """Status, stdout and stderr's text of a command that cannot ask anything of anybody."""
    path = os.environ.get("PATH", "/usr/bin:/bin") + ":" + SBIN
    try:
        done = subprocess.run(
            argv,
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=COMMAND_SECONDS,
            env=dict(os.environ, LC_ALL="C", PATH=path),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 124, b"", "it did not end in %d s" % COMMAND_SECONDS
    except OSError as error:
        return 127, b"", str(error)
    return done.returncode, done.stdout, done.stderr.decode("utf-8", "replace").strip()


def must(step: str, argv: list[str], data: bytes = b"") -> bytes:
    """The command's stdout; raises Failed where it does not end with 0."""
    status, out, error = run(argv, data)
    if status != 0:
        raise Failed(step, "`%s` ended with status %d: %s" % (" ".join(argv), status, error))
    return out


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
            raise Failed("lock", "locked by " + (holder or "somebody without a name")) from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        name = "%s (pid %d)" % (self.holder, os.getpid())
        os.ftruncate(self.file, 0)
        os.pwrite(self.file, name.encode("utf-8", "replace")[:4000], 0)

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
                raise Failed("lock", "%s: %s" % (self.path, error.strerror)) from error
        raise Failed("lock", self.path + " comes and goes")

    @staticmethod
    def _late(number: int, frame: Any) -> None:
        raise InterruptedError


def nginx_processes() -> dict[int, tuple[int, str, str]]:
    """Each nginx process as {pid: (parent, start time, title)}."""
    found = {}
    for name in os.listdir(PROC):
        if not name.isdigit():
            continue
        try:
            with open("%s/%s/cmdline" % (PROC, name), "rb") as file:
                title = file.read(256).replace(b"\0", b" ").decode("ascii", "replace")
            if not title.startswith("nginx: "):
                continue
            with open("%s/%s/stat" % (PROC, name)) as file:
                fields = file.read().rpartition(")")[2].split()
            found[int(name)] = (int(fields[1]), fields[19], title)
        except (OSError, IndexError, ValueError):
            continue
    return found


def master_pid(request: dict[str, Any]) -> int:
    """The running nginx's master process; raises Failed where there is none or several."""
    if request.get("unit"):
        argv = ["systemctl", "show", "-p", "MainPID", "--value", "--", request["unit"]]
        text = must("reload", argv).decode("ascii", "replace").strip()
        if not text.isdigit() or int(text) == 0:
            raise Failed("reload", "%s is not running" % request["unit"])
        return int(text)
    if request.get("pid_file"):
        try:
            with open(request["pid_file"]) as file:
                return int(file.read())
        except (OSError, ValueError) as error:
            raise Failed("reload", "nginx is not running: %s" % error) from error
    masters = [pid for pid, what in nginx_processes().items() if " master process" in what[2]]
    if len(masters) != 1:
        raise Failed("reload", "%d nginx run here, one is needed" % len(masters))
    return masters[0]


def serving(master: int) -> set[tuple[int, str]]:
    """The workers of `master` that accept requests, as {(pid, start time)}."""
    return {
        (pid, what[1])
        for pid, what in nginx_processes().items()
        if what[0] == master and "worker process" in what[2] and "shutting down" not in what[2]
    }


def reload_and_confirm(request: dict[str, Any]) -> None:
    """Reload, then wait until new workers serve and every old one has stopped accepting."""
    master = master_pid(request)
    old = serving(master)
    must("reload", request["reload"])
    say("reloaded")
    began = time.monotonic()
    pause = 0.002
    while True:
        now = serving(master)
        if now and not now & old:
            break
        if time.monotonic() - began > request["confirm_seconds"]:
            raise Failed(
                "confirm",
                "nginx took the reload, but no new workers run after %g s: its error log says why"
                % request["confirm_seconds"],
            )
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    say("confirmed", workers=sorted(pid for pid, _ in now))


def commands(target: str) -> dict[str, list[str]]:
    """Every command that changes `target`, by what it is for; the plan shows these very ones.

    The new text and the old stand beside it under hidden names: no include glob matches a
    leading dot, and a rename stays on one file system.
    """
    directory, name = os.path.split(target)
    old = os.path.join(directory, ".%s.llamatop-old" % name)
    new = os.path.join(directory, ".%s.llamatop-new" % name)
    return {
        "keep": ["cp", "-a", "-T", "--", target, old],
        "copy": ["cp", "-a", "-T", "--", target, new],
        "fill": ["dd", "of=" + new, "conv=fsync", "status=none"],
        "swap": ["mv", "-f", "-T", "--", new, target],
        "back": ["mv", "-f", "-T", "--", old, target],
        "tidy": ["rm", "-f", "--", new, old],
    }


def write(file: dict[str, str], sudo: list[str]) -> None:
    """The new text in the place of the old, which stays beside it until all is confirmed."""
    target = file["target"]
    todo = {what: sudo + argv for what, argv in commands(target).items()}
    try:
        must("write", todo["keep"])
        must("write", todo["copy"])
        must("write", todo["fill"], file["text"].encode("latin-1"))
        if digest(todo["swap"][-2], sudo) != file["after"]:
            raise Failed("write", "%s does not hold what was written" % todo["swap"][-2])
        if digest(target, sudo) != file["before"]:
            raise Failed("changed", "%s was changed by another hand just now" % target)
        must("write", todo["swap"])
    except Failed:
        run(todo["tidy"])
        raise
    try:
        directory = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError:
        pass
    say("written", file=target)


def restore(files: list[dict[str, str]], sudo: list[str]) -> list[str]:
    """Every written file as it was; the names of those that could not be put back."""
    lost = []
    for file in files:
        target = file["target"]
        if run(sudo + commands(target)["back"])[0] != 0:
            lost.append(target)
    return lost


def check(request: dict[str, Any]) -> list[dict[str, str]]:
    """The files that still have to be written; raises Failed where another hand was quicker."""
    todo = []
    for file in request["files"]:
        if os.path.realpath(file["path"]) != file["target"]:
            raise Failed("changed", "%s no longer leads to %s" % (file["path"], file["target"]))
        now = digest(file["target"], request["sudo"])
        if now == file["before"]:
            todo.append(file)
        elif now != file["after"]:
            raise Failed(
                "changed", "%s was changed after the plan was made; make it again" % file["target"]
            )
    return todo


def transact(request: dict[str, Any]) -> None:
    """All files, one test, one reload; raises Failed with everything as it was before."""
    sudo = request["sudo"]
    todo = check(request)
    written = []
    try:
        for file in todo:
            write(file, sudo)
            written.append(file)
        must("test", request["test"])
        say("tested")
        reload_and_confirm(request)
    except Failed as failure:
        if not written:
            raise
        lost = restore(written, sudo)
        if lost:
            text = "%s; NOT put back: %s (the old text is beside it)" % (failure, ", ".join(lost))
            raise Failed(failure.step, text) from failure
        say("restored")
        if failure.step == "test" and run(request["test"])[0] != 0:
            text = "the configuration was invalid before the change: %s" % failure
            raise Failed("test", text) from failure
        if failure.step == "confirm":
            run(request["reload"])
        raise
    for file in written:
        run(sudo + commands(file["target"])["tidy"])


def main() -> int:
    """Read the request and do it in a session of its own; the status is 0 only when done."""
    request = json.loads(sys.stdin.buffer.readline().decode())
    child = os.fork()
    if child:
        return 0 if os.waitpid(child, 0)[1] == 0 else 1
    os.setsid()
    for number in (signal.SIGHUP, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    lock = Lock(os.environ.get("LLAMATOP_LOCK_DIRECTORY"), request["holder"])
    status = 1
    try:
        lock.take(request["lock_seconds"])
        say("locked")
        transact(request)
        say("done")
        status = 0
    except Failed as failure:
        say("failed", step=failure.step, error=str(failure))
    except Exception as error:  # noqa: BLE001 - the other side must hear of it
        say("failed", step="program", error="%s: %s" % (type(error).__name__, error))
    finally:
        lock.release()
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
