"""One run of the embedded cluster from its first file to its last process."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from llamatop.errors import UsageError

from . import shape
from .embedded import EmbeddedCluster, environment_token
from .listening import free_subnet
from .switches import Switches
from .trouble import Trouble

MARK = ".llamatop-demo"

# Waits for the demo's death by whatever cause, then ends every process that carries its mark and
# removes what lies about.
GUARD = """
import os, shutil, sys, time
mark, paths = os.fsencode(sys.argv[1]), sys.argv[2:]
os.read(0, 1)
for _ in range(20):
    found = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/environ" % name, "rb") as file:
                    if mark in file.read().split(b"\\0"):
                        os.kill(int(name), 9)
                        found += 1
            except OSError:
                pass
    if not found:
        break
    time.sleep(0.05)
for path in paths:
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.exists(path):
        os.unlink(path)
"""


class Wish(Struct, frozen=True):
    """What the person asked for on the command line."""

    directory: Path
    nodes: int = 2
    gpus: int = 2
    like: Path | None = None
    faults: tuple[str, ...] = ()
    seed: int | None = None
    real_probes: bool | None = None


def serve(
    wish: Wish,
    on_written: Callable[[], None],
    on_ready: Callable[[], None],
    until_input_ends: bool,
) -> None:
    """Run until SIGTERM, SIGINT or SIGHUP, or until standard input ends; leaves nothing behind.

    `on_written` is called when the files lie in the directory and the SSH sockets listen,
    `on_ready` when everything answers. Raises UsageError where the directory is not free, and
    ConfigError for a bad `like` file.
    """
    with _claimed(wish.directory):
        cluster = _embed(wish)
        watch = _guard(cluster)
        try:
            cluster.write()
            on_written()
            cluster.build()
            trouble = _trouble(cluster, wish.faults)
            asyncio.run(_run(cluster, trouble, wish.faults, on_ready, until_input_ends))
        finally:
            cluster.clean()
            # Its standard input ends with this process at the latest.
            if watch.stdin is not None:
                watch.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                watch.wait(5)


def _embed(wish: Wish) -> EmbeddedCluster:
    if wish.like is not None:
        from . import like

        plan = like.read(wish.like)
        subnet, listeners = free_subnet(plan.addresses)
        made = like.embed(plan, subnet)
    else:
        subnet, listeners = free_subnet(wish.nodes)
        made = shape.plain(subnet, wish.nodes, wish.gpus)
    return EmbeddedCluster(made, listeners, wish.directory, wish.seed, wish.real_probes)


@contextlib.contextmanager
def _claimed(directory: Path) -> Iterator[None]:
    """Hold the directory; one demo at a time, and nobody else's files are overwritten."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark = directory / MARK
        foreign = not mark.exists() and (directory / "cluster.toml").exists()
        if foreign:
            raise UsageError(
                f"{directory}/cluster.toml is not a demo's: name another directory with --write"
            )
        holder = os.open(mark, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"{directory}: {error.strerror}; name another with --write") from error
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(holder)
        raise UsageError(
            f"{directory}: another demo runs there; end it, or name another directory"
        ) from None
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)
        os.close(holder)


def _guard(cluster: EmbeddedCluster) -> subprocess.Popen[bytes]:
    """Start the watch over this process; it does its work when this process is gone."""
    directory = cluster.directory
    paths = [str(path) for path in (*cluster.paths(), directory / MARK, cluster.sockets)]
    return subprocess.Popen(
        [sys.executable, "-IS", "-c", GUARD, os.fsdecode(environment_token(cluster)), *paths],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def _trouble(cluster: EmbeddedCluster, kinds: tuple[str, ...]) -> Trouble:
    """The faults, with their file; raises UsageError for one that this cluster cannot have."""
    trouble = Trouble(cluster, Switches(cluster.directory))
    for kind in kinds:
        if kind not in trouble.possible():
            raise UsageError(
                f"--fault {kind}: this cluster has nothing that it could strike; "
                f"it can have {', '.join(trouble.possible())}"
            )
    trouble.begin(kinds)
    return trouble


async def _run(
    cluster: EmbeddedCluster,
    trouble: Trouble,
    kinds: tuple[str, ...],
    on_ready: Callable[[], None],
    until_input_ends: bool,
) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Under nohup a hang-up stays ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, over.set)

    def input_came() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            over.set()

    if until_input_ends:
        loop.add_reader(0, input_came)
    try:
        await cluster.start()
        await trouble.look()
        following = loop.create_task(trouble.follow(kinds))
        on_ready()
        await over.wait()
        following.cancel()
    finally:
        cluster.stop()
