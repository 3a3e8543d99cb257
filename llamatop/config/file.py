"""The cluster file (CLI.md): read, checked as a whole, turned into a Cluster."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import platformdirs

from llamatop.errors import ConfigError, Problem
from llamatop.model.declared import Alerts, Balancer, Cluster, Node, Silence, Worker
from llamatop.model.rules import IDS

from . import checks, ranges
from .positions import positions
from .table import Notes, Table

LARGEST_FILE_BYTES: Final = 2**20
CLUSTER_KEYS: Final = (
    "name",
    "interval",
    "ssh_config",
    "known_hosts",
    "node",
    "balancer",
    "silence",
    "alerts",
)
NODE_KEYS: Final = ("name", "ssh", "url", "units", "worker")
WORKER_KEYS: Final = ("unit", "url", "member", "api_key_env")
BALANCER_KEYS: Final = ("node", "kind", "upstream", "test", "reload")
SILENCE_KEYS: Final = ("rule", "place", "reason")
ALERTS_KEYS: Final = ("command", "webhook")
NAMELESS: Final = ("",)


def own_path() -> Path:
    """The cluster file in the person's configuration directory, whether it is there or not."""
    return platformdirs.user_config_path("llamatop") / "cluster.toml"


def find() -> Path | None:
    """The cluster file where none is named: here, else in the person's configuration directory."""
    return next((path for path in (Path("cluster.toml"), own_path()) if path.is_file()), None)


def load(path: Path) -> Cluster:
    """Read a cluster file; raises ConfigError with every problem in it."""
    text = _read(path)
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise _only(path, None, "is nested too deeply to be a cluster file") from None
    except ValueError as error:
        raise _syntax_error(path, text, error) from None
    try:
        lines = positions(text)
    except (ValueError, RecursionError):
        lines = {}
    notes = Notes(_label(path), lines)
    cluster = _cluster(document, path, notes)
    if notes.problems:
        raise ConfigError(notes.sorted())
    return cluster


def _only(path: Path, line: int | None, text: str) -> ConfigError:
    return ConfigError([Problem(_label(path), line, "", text)])


def _label(path: Path) -> str:
    return str(path) if str(path).isprintable() else repr(str(path))


def _read(path: Path) -> str:
    try:
        if path.is_dir():
            raise _only(path, None, "is a directory: name the cluster file in it")
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE_BYTES + 1)
    except FileNotFoundError:
        raise _only(path, None, "does not exist: write one, or name hosts instead") from None
    except PermissionError:
        raise _only(path, None, "may not be read: see its permissions with ls -l") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _only(path, None, f"cannot be read ({reason})") from None
    if len(data) > LARGEST_FILE_BYTES:
        raise _only(path, None, "is larger than 1 MiB, so it is no cluster file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _only(path, line, "is not UTF-8 text, so it is no cluster file") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise _only(path, line, "holds a NUL byte, so it is no cluster file")
    return text


def _syntax_error(path: Path, text: str, error: ValueError) -> ConfigError:
    """tomllib says where in words; older Pythons have nothing else."""
    message = str(error)
    found = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
    if found is None:
        return _only(path, None, f"is not TOML: {message}")
    line = int(found[1]) if found[1] else text.rstrip().count("\n") + 1
    reason = message[: found.start()]
    return _only(path, line, f"is not TOML: {reason[:1].lower()}{reason[1:]}")


def _cluster(document: Mapping[str, object], path: Path, notes: Notes) -> Cluster:
    top = Table(document, CLUSTER_KEYS, (), notes)
    name = top.text("name", checks.text_fault)
    interval = top.number("interval", checks.interval_fault)
    tables = top.tables("node", NODE_KEYS)
    if not tables and (not top.has("node") or document["node"] == []):
        top.note("node", 'there is none: add [[node]] with name = "…" and ssh = "…"')
    nodes: dict[str, Node] = {}
    members: dict[str, str] = {}
    all_named = True
    for table in tables:
        found = _nodes(table, members)
        all_named = all_named and bool(found)
        for node in found:
            if node.name in nodes:
                table.note("name", f"{checks.shown(node.name)} is the name of another node as well")
                all_named = False
            else:
                nodes[node.name] = node
    return Cluster(
        name=name or path.stem,
        nodes=tuple(nodes.values()),
        balancer=_balancer(top, nodes, all_named),
        interval_seconds=1.0 if interval is None else interval,
        ssh_config=_file(top, "ssh_config", path, must_exist=True),
        known_hosts=_file(top, "known_hosts", path, must_exist=False),
        path=path,
        silences=tuple(_silences(top)),
        alerts=_alerts(top),
    )


def _nodes(table: Table, members: dict[str, str]) -> list[Node]:
    """The nodes of a table: several where its name has a range, none without a usable name.

    `members` collects who has which server line.
    """
    name = table.required("name", ranges.each(checks.name_fault), 'write name = "…"')
    ssh = table.text("ssh", ranges.each(checks.ssh_fault))
    url = table.text("url", ranges.each(checks.url_fault))
    units = table.texts("units", checks.text_fault)
    if not table.has("ssh") and not table.has("url"):
        table.note(None, 'has neither ssh = "HOST" nor, to be read by HTTP alone, url = "http://…"')
    elif table.has("ssh") and table.has("url"):
        table.note("url", "is for a node without ssh: a worker's url goes into [[node.worker]]")
    elif table.has("url") and table.has("units"):
        table.note("units", "cannot be known without ssh: leave it out, or add ssh")
    names = () if name is None else ranges.expand(name)
    # Where the name is wrong, what is said of the workers is looked at all the same.
    called = names or NAMELESS
    hosts, urls = _spread(table, "ssh", ssh, called), _spread(table, "url", url, called)
    workers: list[dict[str, Worker]] = [{} for _ in called]
    for inner in table.tables("worker", WORKER_KEYS):
        for place, worker in enumerate(_workers(inner, called)):
            if worker.unit in workers[place]:
                inner.note("unit", f"{worker.unit} is described twice on this node")
                break
            workers[place][worker.unit] = worker
            owner = f"{called[place]}/{worker.unit}"
            if worker.member is not None and members.setdefault(worker.member, owner) != owner:
                inner.note("member", f"is that of {members[worker.member]} as well")
                break
    return [
        Node(one, ssh=host, url=address, units=units, workers=tuple(described.values()))
        for one, host, address, described in zip(called, hosts, urls, workers, strict=True)
        if one
    ]


def _spread(
    table: Table, key: str, value: str | None, names: Sequence[str], *, shared: bool = False
) -> Sequence[str | None]:
    """The value for each of the nodes, by a range as long as theirs; or one for all if `shared`."""
    found: tuple[str | None, ...] = (None,) if value is None else ranges.expand(value)
    if len(found) == len(names):
        return found
    if value is not None and names is not NAMELESS and not (shared and len(found) == 1):
        called = f"for {len(names)}, {names[0]} to {names[-1]}" if len(names) > 1 else "for one"
        text = f"stands for {len(found)} and the node's name {called}: write ranges of one length"
        table.note(key, text)
        found = (None,)
    return found[:1] * len(names)


def _workers(table: Table, names: Sequence[str]) -> list[Worker]:
    """The worker on each of the nodes, none without a usable unit."""
    unit = table.required("unit", checks.unit_fault, "write the unit that this is about")
    url = table.text("url", ranges.each(checks.url_fault))
    member = table.text("member", ranges.each(checks.member_fault))
    variable = table.text("api_key_env", checks.variable_fault)
    if unit is None:
        return []
    urls = _spread(table, "url", url, names, shared=True)
    members = _spread(table, "member", member, names)
    return [
        Worker(unit=checks.with_service(unit), url=address, member=line, api_key_env=variable)
        for address, line in zip(urls, members, strict=True)
    ]


def _balancer(top: Table, nodes: Mapping[str, Node], all_named: bool) -> Balancer | None:
    table = top.table("balancer", BALANCER_KEYS)
    if table is None:
        return None
    node = table.required("node", checks.text_fault, "write the node that nginx runs on")
    kind = table.text("kind", checks.kind_fault)
    upstream = table.required("upstream", checks.upstream_fault, "write the upstream's name")
    if node is not None and node not in nodes and all_named:
        close = difflib.get_close_matches(node, nodes, 1, 0.5)
        known = ", ".join(nodes) or "none"
        table.note("node", f"no node is called {checks.shown(node)}; known here: {known}", *close)
    elif node is not None and node in nodes and nodes[node].url is not None:
        table.note("node", f"{node} has no ssh, so its nginx cannot be reached")
    test, reload = (_argv(table, key) for key in ("test", "reload"))
    if node is None or upstream is None:
        return None
    return Balancer(node, upstream, kind or "nginx", test=test, reload=reload)


def _alerts(top: Table) -> Alerts | None:
    table = top.table("alerts", ALERTS_KEYS)
    if table is None:
        return None
    return Alerts(_argv(table, "command"), table.text("webhook", checks.webhook_fault))


def _silences(top: Table) -> Iterator[Silence]:
    for table in top.tables("silence", SILENCE_KEYS):
        rule = table.required("rule", checks.text_fault, "write the finding's id")
        place = table.text("place", checks.text_fault)
        reason = table.text("reason", checks.text_fault)
        if rule is not None and rule not in IDS:
            close = difflib.get_close_matches(rule, IDS, 1, 0.5)
            table.note("rule", f"no finding has the id {checks.shown(rule)}", *close)
        elif rule is not None:
            yield Silence(rule, place or "*", reason)


def _argv(table: Table, key: str) -> tuple[str, ...]:
    """A command as a list of words; nothing of it meets a shell."""
    words = table.texts(key, checks.text_fault)
    if table.empty(key):
        table.note(key, 'is empty: write the command as a list, ["docker", "exec", …]')
    return words


def _file(top: Table, key: str, path: Path, must_exist: bool) -> Path | None:
    """A file named relative to the cluster file, or from the home directory with ~."""
    name = top.text(key, checks.text_fault)
    if name is None:
        return None
    try:
        file = path.absolute().parent / Path(name).expanduser()
        exists = file.is_file() or not must_exist
    except (OSError, RuntimeError, ValueError) as error:
        top.note(key, f"is no file name ({error})")
        return None
    if not exists:
        top.note(key, f"{checks.shown(str(file), 200)} does not exist")
        return None
    return file
