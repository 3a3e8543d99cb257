"""What ssh itself would do for a host: `ssh -G` asked, its answer read.

paramiko's own reader knows neither Include nor Match, so the installed ssh is the judge of the
configuration, of every jump host as well.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from llamatop.errors import Unreachable

from .descriptors import exhausted

RESOLVE_TIMEOUT_SECONDS: Final = 10.0
MOST_HOPS: Final = 16


class SshOptions(Struct, frozen=True):
    """The files that stand in for the person's own, as `ssh -F` and UserKnownHostsFile do."""

    config: Path | None = None
    known_hosts: Path | None = None

    def argv(self) -> list[str]:
        """The same as arguments of ssh."""
        argv = [] if self.config is None else ["-F", str(self.config)]
        if self.known_hosts is not None:
            name = str(self.known_hosts).replace("%", "%%")
            argv += ["-o", f'UserKnownHostsFile="{name}"']
        return argv


class HostConfig(Struct, frozen=True):
    """One host as `ssh -G` resolves it; `values` holds every line by lower-case key, in order.

    `via` is the jump host before it.
    """

    target: tuple[str, ...]
    values: Mapping[str, Sequence[str]]
    options: SshOptions
    via: HostConfig | None = None

    def first(self, key: str, default: str = "") -> str:
        """The first value of a key, `default` where it is unset or "none"."""
        found = self.values.get(key, ())
        return found[0] if found and found[0].lower() != "none" else default

    def algorithms(self, key: str) -> list[str]:
        """A comma-separated list, such as `ciphers`."""
        return [name for name in self.first(key).split(",") if name]

    def seconds(self, key: str) -> float | None:
        """A count or time in seconds, None where it is unset or 0."""
        text = self.first(key)
        return float(text) if text.isdigit() and int(text) > 0 else None

    @property
    def host(self) -> str:
        """HostName, what is resolved and looked up in known_hosts; lower case, as ssh has it."""
        return self.first("hostname").lower()

    @property
    def port(self) -> int:
        """Port."""
        return int(self.first("port", "22"))

    @property
    def user(self) -> str:
        """User."""
        return self.first("user")

    @property
    def place(self) -> str:
        """`host:port` for a sentence."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def known_hosts_files(self) -> list[Path]:
        """Every known_hosts file, the person's own first."""
        if self.options.known_hosts is not None:
            own = [self.options.known_hosts]
        else:
            own = _paths(self.first("userknownhostsfile"))
        return own + _paths(self.first("globalknownhostsfile"))

    def ssh_argv(self, *arguments: str) -> list[str]:
        """The ssh command that reaches this host with the same files at every hop.

        ssh hands only -F on to the ssh of a jump host: with a known_hosts file of our own the
        jumps are spelled out.
        """
        argv = ["ssh", *self.options.argv()]
        if self.via is not None and self.options.known_hosts is not None:
            host = f"[{self.host}]:{self.port}"
            command = shlex.join(self.via.ssh_argv("-W", host))
            argv += ["-o", "ProxyCommand=" + command.replace("%", "%%")]
        return [*argv, *arguments, *self.target]

    def expand(self, text: str) -> str:
        """The %-tokens, `~` and `${VARIABLE}` of a file name, as ssh_config(5) lists them."""
        home = str(Path.home())
        tokens = {
            "%": "%",
            "d": home,
            "h": self.host,
            "i": str(os.getuid()),
            "k": self.first("hostkeyalias") or self.alias,
            "L": os.uname().nodename.split(".")[0],
            "l": os.uname().nodename,
            "n": self.alias,
            "p": str(self.port),
            "r": self.user,
            "u": os.environ.get("USER") or os.environ.get("LOGNAME") or "",
        }
        text = re.sub(r"%(.)", lambda found: tokens.get(found[1], found[0]), text)
        text = re.sub(r"\$\{(\w+)\}", lambda found: os.environ.get(found[1], ""), text)
        return home + text[1:] if text == "~" or text.startswith("~/") else text

    @property
    def alias(self) -> str:
        """The host as it was asked for, without user and port."""
        return self.first("host") or self.target[-1].rpartition("@")[2]

    def proxy_command(self) -> str | None:
        """ProxyCommand with its tokens filled in."""
        command = self.first("proxycommand")
        if not command:
            return None
        tokens = {
            "%": "%",
            "h": self.host,
            "n": self.alias,
            "p": str(self.port),
            "r": self.user,
            "d": str(Path.home()),
            "k": self.first("hostkeyalias") or self.alias,
        }
        # a host name is data: what a shell could read as more than a word stays one word
        quoted = {key: shlex.quote(value) for key, value in tokens.items()}
        quoted["%"] = "%"
        return re.sub(r"%(.)", lambda found: quoted.get(found[1], found[0]), command)

    @property
    def jumps(self) -> list[str]:
        """ProxyJump's hosts, nearest to here first."""
        return [jump.strip() for jump in self.first("proxyjump").split(",") if jump.strip()]


def target(text: str) -> tuple[str, ...]:
    """The end of an ssh command for a host as written in a cluster file.

    ssh itself takes user@host and ssh://user@host:port; here user@host:port and [v6]:port too.
    """
    user, at, rest = text.removeprefix("ssh://").rstrip("/").rpartition("@")
    found = re.fullmatch(r"(?:\[(.+)\]|([^:]+)):(\d+)", rest)
    if found:
        return ("-p", found[3], "--", f"{user}{at}{found[1] or found[2]}")
    bracketed = re.fullmatch(r"\[(.+)\]", rest)
    return ("--", f"{user}{at}{bracketed[1] if bracketed else rest}")


class _Answers:
    """What `ssh -G` said last of each host, for those who need not ask anew; of all threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._last: dict[tuple[str, SshOptions], HostConfig | None] = {}

    def keep(self, text: str, options: SshOptions, answer: HostConfig | None) -> None:
        with self._changed:
            self._last[text, options] = answer
            self._changed.notify_all()

    def wait(self, text: str, options: SshOptions, seconds: float) -> HostConfig | None:
        with self._changed:
            self._changed.wait_for(lambda: (text, options) in self._last, seconds)
            return self._last.get((text, options))


_answers = _Answers()


def answered(text: str, options: SshOptions, timeout_seconds: float) -> HostConfig | None:
    """What `resolve` found last for a host, waiting for the first time; None where it failed."""
    return _answers.wait(text, options, timeout_seconds)


def resolve(node: str, text: str, options: SshOptions) -> HostConfig:
    """Ask `ssh -G`; blocks for a few milliseconds. Raises Unreachable."""
    answer: HostConfig | None = None
    try:
        answer = _asked(node, text, options)
        return answer
    finally:
        _answers.keep(text, options, answer)


def _asked(node: str, text: str, options: SshOptions) -> HostConfig:
    argv = ["ssh", *options.argv(), "-G", *target(text)]
    try:
        answer = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=RESOLVE_TIMEOUT_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise Unreachable(
            node,
            "the ssh command, which reads the ssh configuration, is not installed on this machine",
            "install it: apt-get install openssh-client",
        ) from None
    except subprocess.TimeoutExpired:
        raise Unreachable(
            node,
            f"`{shlex.join(argv)}` did not answer within {RESOLVE_TIMEOUT_SECONDS:g} s",
            "a Match exec of the ssh configuration may hang: run it by hand",
        ) from None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and (fault := exhausted(node, error)):
            raise fault from None
        raise Unreachable(node, f"`{shlex.join(argv)}` does not run: {error}") from None
    if answer.returncode != 0:
        raise Unreachable(
            node,
            f"ssh does not accept its configuration for {text!r}: {_complaint(answer.stderr)}",
            f"see what it says: {shlex.join(argv)}",
        )
    values: dict[str, list[str]] = {}
    for line in os.fsdecode(answer.stdout).splitlines():
        key, _, value = line.partition(" ")
        values.setdefault(key.lower(), []).append(value)
    return HostConfig(target(text), values, options)


def route(node: str, text: str, options: SshOptions) -> list[HostConfig]:
    """The host and every jump host before it, the nearest to here first; raises Unreachable.

    As ssh does it: a jump's own ProxyJump counts only for the first of a list, since `-J` for
    the ones before replaces it for the rest.
    """
    hops = [resolve(node, text, options)]
    while jumps := hops[0].jumps:
        hops = [resolve(node, jump, options) for jump in jumps] + hops
        where = [(hop.alias, hop.place, hop.user) for hop in hops]
        if len(hops) > MOST_HOPS or len(set(where)) < len(where):
            names = " → ".join(alias for alias, _, _ in where[:6])
            more = " …" if len(where) > 6 else ""
            raise Unreachable(
                node,
                f"the ssh configuration jumps in a circle ({names}{more})",
                f"look at ProxyJump for {hops[0].alias}",
            )
    linked: list[HostConfig] = []
    for hop in hops:
        linked.append(replace(hop, via=linked[-1] if linked else None))
    return linked


def _complaint(stderr: bytes) -> str:
    lines = [
        line.strip()
        for line in stderr.decode("utf-8", "replace").splitlines()
        if line.strip() and not line.startswith("Pseudo-terminal")
    ]
    return "; ".join(lines[:2]) or "it gives no reason"


def _paths(text: str) -> list[Path]:
    """The file names in a line of `ssh -G`, which does not quote the spaces inside them."""
    words = text.split(" ") if text else []
    found: list[Path] = []
    while words:
        length = next(
            (n for n in range(len(words), 1, -1) if Path(" ".join(words[:n])).exists()), 1
        )
        name = " ".join(words[:length])
        words = words[length:]
        if name and name != "none":
            found.append(Path(name).expanduser())
    return found
