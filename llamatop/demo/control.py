"""Where the stand-in commands of a simulated machine are answered."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .answers import BUILD
from .balancer import VERSION
from .journalctl import journalctl
from .listening import listen_at, received
from .smi import nvidia_smi
from .systemctl import systemctl

if TYPE_CHECKING:
    from .machine import Machine

STDOUT, STDERR, EXIT = 1, 2, 0

# Small on purpose: it starts as often as the probe asks. `_socket` alone loads in no time.
CLIENT = """\
#!{python} -IS
import sys
from _signal import SIG_DFL, signal
from _socket import socket
signal(2, SIG_DFL)
signal(13, SIG_DFL)
name = sys.argv[0].rpartition("/")[2]
link = socket(1, 1)
try:
    link.connect({socket!r})
except OSError:
    sys.exit(name + ": the demo has ended")
words = "\\0".join([name] + sys.argv[1:]).encode("utf-8", "surrogateescape")
link.sendall(len(words).to_bytes(4, "big") + words)
def read(count):
    data = b""
    while len(data) < count:
        part = link.recv(count - len(data))
        if not part:
            sys.exit(1)
        data += part
    return data
outputs = {{1: sys.stdout.buffer, 2: sys.stderr.buffer}}
while True:
    head = read(5)
    data = read(int.from_bytes(head[1:], "big"))
    if head[0] == 0:
        sys.exit(data[0])
    outputs[head[0]].write(data)
    outputs[head[0]].flush()
"""

SUDO = """\
#!/bin/sh
# Everything is allowed here; commands that the simulated machine has are its own.
list=
while [ $# -gt 0 ]; do
    case $1 in
    --) shift; break ;;
    -l | --list) list=1; shift ;;
    -u | -g | -p | -U) shift 2 ;;
    -*) shift ;;
    *) break ;;
    esac
done
[ $# -gt 0 ] || exit 0
command=$1
shift
own={bin}/${{command##*/}}
[ -x "$own" ] && command=$own
if [ -n "$list" ]; then
    echo "$command $*"
    exit 0
fi
exec "$command" "$@"
"""

# What reads and writes the files of systemd, led to the simulated machine's own: no path that
# llamatop names there comes to this machine's files.
LED = """\
#!/bin/sh
left=$#
while [ "$left" -gt 0 ]; do
    word=$1
    shift
    left=$((left - 1))
    case $word in
    /etc/systemd/* | /run/systemd/* | /usr/lib/systemd/* | /usr/local/lib/systemd/* | \
        /lib/systemd/* | /proc/net/*)
        word={root}$word ;;
    -o | -g)
        # Whoever runs the demo need not be root.
        if [ "${{0##*/}}" = install ]; then
            shift
            left=$((left - 1))
            continue
        fi ;;
    esac
    set -- "$@" "$word"
done
exec {tool} "$@"
"""
LED_TOOLS = ("cat", "grep", "install", "ln", "ls", "rm", "stat")

REFUSED = """\
#!/bin/sh
echo "${0##*/}: this machine is simulated, but its shell is real: refused" >&2
exit 1
"""


DANGEROUS = ("reboot", "poweroff", "halt", "shutdown", "init", "telinit")
PATH_HERE = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
# What this machine may have and the simulated one has not.
ABSENT = ("nginx", "nvidia-smi", "ss", "llama-server", "ollama", "vllm", "docker", "podman")

NOT_FOUND = """\
#!/bin/sh
echo "${0##*/}: command not found" >&2
exit 127
"""


class Output:
    """What a command prints: to the stand-in that runs it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer

    def write(self, text: str) -> None:
        """Standard output."""
        self._frame(STDOUT, text)

    def error(self, text: str) -> None:
        """Standard error."""
        self._frame(STDERR, text)

    def _frame(self, kind: int, text: str) -> None:
        if text:
            data = text.encode("utf-8", "surrogateescape")
            self.writer.write(bytes([kind]) + len(data).to_bytes(4, "big") + data)

    async def drain(self) -> None:
        """Wait until the reader has kept up; raises ConnectionError when it is gone."""
        await self.writer.drain()


Command = Callable[["Machine", list[str], Output], Awaitable[int]]


async def nginx(machine: Machine, argv: list[str], output: Output) -> int:
    """Run one nginx command; gives its exit status."""
    if machine.nginx is None:
        output.error("nginx: command not found\n")
        return 127
    process = machine.nginx
    chosen: Path | None = None
    signal = ""
    flags = set()
    waiting = iter(argv)
    for word in waiting:
        if word == "-c":
            chosen = Path(next(waiting, ""))
        elif word == "-s":
            signal = next(waiting, "")
        elif word in ("-g", "-p", "-e"):
            next(waiting, "")
        else:
            flags.add(word)
    if "-v" in flags or "-V" in flags:
        output.error(f"nginx version: nginx/{VERSION}\n")
        if "-V" in flags:
            output.error(
                f"configure arguments: --prefix=/usr/share/nginx --conf-path={process.main}\n"
            )
        return 0
    status, text = process.test(chosen)
    if signal:
        if status:
            output.error(text.splitlines()[0] + "\n")
            return 1
        if process.unit is None or not process.unit.runs:
            output.error(
                'nginx: [error] open() "/run/nginx.pid" failed (2: No such file or directory)\n'
            )
            return 1
        if signal == "reload":
            machine.schedule(process.reload())
        elif signal in ("stop", "quit"):
            machine.schedule(process.unit.stop())
        return 0
    if "-T" in flags and not status:
        output.write(process.dump())
    output.error(text if "-q" not in flags or status else "")
    return status


async def ss(machine: Machine, argv: list[str], output: Output) -> int:
    """The upstream connections of nginx, as `ss -tnp` lists them; gives 0."""
    output.write("State Recv-Q Send-Q Local Address:Port Peer Address:Port Process\n")
    for link in machine.nginx.connections() if machine.nginx else ():
        here, there = (f"{host}:{port}" for host, port in (link.local, link.remote))
        users = f'users:(("nginx",pid={link.pid},fd={link.inode % 1000}))'
        output.write(f"ESTAB 0 0 {here} {there} {users}\n")
    return 0


async def llama_server(machine: Machine, argv: list[str], output: Output) -> int:
    """`llama-server --version`; it is started by its unit alone."""
    output.error(f"version: {BUILD}\nbuilt with cc (Debian 12.2.0-14) for x86_64-linux-gnu\n")
    return 0


async def hostname(machine: Machine, argv: list[str], output: Output) -> int:
    """The simulated machine's name."""
    output.write(machine.name + "\n")
    return 0


COMMANDS: dict[str, Command] = {
    "systemctl": systemctl,
    "journalctl": journalctl,
    "nginx": nginx,
    "nvidia-smi": nvidia_smi,
    "ss": ss,
    "llama-server": llama_server,
    "hostname": hostname,
}


class Control:
    """Answers the stand-ins of one machine on a Unix socket."""

    def __init__(self, machine: Machine, path: Path) -> None:
        self.machine = machine
        self.path = path
        self.server: asyncio.Server | None = None
        self.installed = False

    def install(self) -> None:
        """Write the stand-ins into the machine's `bin`, and the library that is none into `lib`.

        From then on its processes show in files too.
        """
        if self.installed:
            return
        self.installed = True
        self.machine.table.show()
        place = self.machine.root / "bin"
        python = os.path.realpath(sys.executable)
        client = CLIENT.format(python=python, socket=str(self.path))
        for name in COMMANDS:
            if name in ("nvidia-smi",) and not self.machine.cards:
                continue
            if name in ("nginx", "ss") and self.machine.nginx is None:
                continue
            _script(place / name, client)
        _script(place / "sudo", SUDO.format(bin=place))
        for name in LED_TOOLS:
            tool = shutil.which(name, path=PATH_HERE) or "/bin/false"
            _script(place / name, LED.format(root=shlex.quote(str(self.machine.root)), tool=tool))
        # The journal of the machine that this runs on is none of a simulated one's business.
        _script(place / "logger", "#!/bin/sh\n")
        for name in DANGEROUS:
            _script(place / name, REFUSED)
        for name in ABSENT:
            if not (place / name).exists() and shutil.which(name, path=PATH_HERE):
                _script(place / name, NOT_FOUND)
        for name in ("python3", "python"):
            (place / name).symlink_to(python)
        # An empty file: the loader stops at it ("file too short") and looks no further, so that
        # this machine's own driver is not found.
        (self.machine.root / "lib/libnvidia-ml.so.1").write_bytes(b"")

    async def start(self) -> None:
        """Begin to answer."""
        self.server = await listen_at(self._serve, self.path)
        self.path.chmod(0o600)

    def stop(self) -> None:
        """Answer no more."""
        if self.server is not None:
            self.server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            size = int.from_bytes(await reader.readexactly(4), "big")
            words = (await reader.readexactly(size)).decode("utf-8", "surrogateescape").split("\0")
            running = asyncio.ensure_future(
                COMMANDS[words[0]](self.machine, words[1:], Output(writer))
            )
            leaving = asyncio.ensure_future(received(reader))
            await asyncio.wait({running, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                # The caller is gone. What it asked of a unit goes on, as systemd would.
                if words[0] == "journalctl":
                    running.cancel()
                await asyncio.wait({running})
            leaving.cancel()
            if not running.cancelled():
                writer.write(bytes([EXIT]) + (1).to_bytes(4, "big") + bytes([running.result()]))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The stand-in was killed.
        finally:
            writer.close()


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
