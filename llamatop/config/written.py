"""A Cluster -> the text of a cluster file that teaches; config.load reads the same Cluster back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import UTC
from pathlib import Path

import tomlkit

from llamatop.model.cluster import ClusterSnapshot
from llamatop.model.declared import Balancer, Cluster, Node, Silence, Worker
from llamatop.model.text import plain

from . import found
from .schema import FILE

_COMMENT_COLUMN = 34


def written(snapshot: ClusterSnapshot, directory: Path | None = None) -> str:
    """The file of a cluster that was looked at: what it needs as keys, what was seen as comments.

    Its own files are named relative to `directory`, where it is to lie; absolute without it.
    """
    cluster = found.found(snapshot)
    lines = [*_head(snapshot, directory), *_cluster(cluster, directory)]
    for node in cluster.nodes:
        lines += ["", *_comments(found.of_node(snapshot.node(node.name), snapshot))]
        lines += [*_node(node, snapshot)]
    lines += ["", *_balancer(cluster.balancer, snapshot)]
    for silence in cluster.silences:
        lines += ["", *_silence(silence)]
    return "\n".join(lines) + "\n"


def _head(snapshot: ClusterSnapshot, directory: Path | None) -> Iterator[str]:
    there = directory is not None and (directory / FILE).is_file()
    if there:
        yield f"#:schema {FILE}"
    at = snapshot.taken_at.astimezone(UTC)
    yield f"# What llamatop found on {at:%Y-%m-%d at %H:%M} UTC. It is yours to edit."
    yield "# As ./cluster.toml or ~/.config/llamatop/cluster.toml it opens with `llamatop` alone,"
    yield "# from anywhere else with -c FILE."
    if not there:
        yield f"# Editors with Taplo complete and check it where `llamatop schema > {FILE}`"
        yield f"# lies beside it and the first line here is  #:schema {FILE}"


def _cluster(cluster: Cluster, directory: Path | None) -> Iterator[str]:
    yield _pair("name", cluster.name)
    if cluster.interval_seconds == 1.0:
        yield _told("# interval = 1.0", "seconds between two ticks")
    else:
        yield _told(_pair("interval", cluster.interval_seconds), "seconds between two ticks")
    for key, path, told in (
        ("ssh_config", cluster.ssh_config, "in place of your own; relative to this file"),
        ("known_hosts", cluster.known_hosts, "likewise"),
    ):
        pair = _pair(key, key if path is None else _relative(path, directory))
        yield _told(f"# {pair}" if path is None else pair, told)


def _node(node: Node, snapshot: ClusterSnapshot) -> Iterator[str]:
    yield "[[node]]"
    yield _told(_pair("name", node.name), "what its workers' names begin with")
    if node.ssh is not None:
        yield _told(_pair("ssh", node.ssh), 'as you would type it after ssh; "local": this machine')
        units = list(node.units) or found.units_of(node.name, snapshot)
        if node.units:
            yield _pair("units", units)
        elif units:
            yield _told("# " + _pair("units", units), "these alone")
    if node.url is not None:
        yield _told(_pair("url", node.url), "no ssh: read by HTTP alone")
    for worker in node.workers:
        yield ""
        yield from _worker(worker)
    told = {worker.unit for worker in node.workers}
    for unit, sentence in found.in_doubt(node.name, snapshot):
        if f"{unit}.service" not in told:
            yield ""
            yield from _comments((sentence,))
            yield "# [[node.worker]]"
            yield "# " + _pair("unit", unit)
            yield _told('# member = "ADDRESS"', "its server line in the upstream, host:port")


def _worker(worker: Worker) -> Iterator[str]:
    yield "[[node.worker]]"
    yield _pair("unit", worker.unit.removesuffix(".service"))
    if worker.url is not None:
        yield _told(_pair("url", worker.url), "as seen from the node")
    if worker.member is not None:
        yield _told(_pair("member", worker.member), "its server line in the upstream")
    if worker.api_key_env is not None:
        pair = _pair("api_key_env", worker.api_key_env)
        yield _told(pair, "a variable where llamatop runs; never the key itself")


def _balancer(balancer: Balancer | None, snapshot: ClusterSnapshot) -> Iterator[str]:
    if balancer is None:
        yield from _comments(
            ("No nginx upstream was found that leads to these workers. Where there is one:",)
        )
        node = next((node.name for node in snapshot.cluster.nodes if node.ssh), "node1")
        yield "# [balancer]"
        yield _told("# " + _pair("node", node), "the node that nginx runs on")
        yield _told('# upstream = "llama_cluster"', "the name after `upstream` in its files")
        return
    yield f"# nginx's upstream, as {_comment(balancer.node)} has it:"
    yield from _comments(found.of_balancer(snapshot, balancer.upstream))
    yield "[balancer]"
    yield _pair("node", balancer.node)
    yield _pair("kind", balancer.kind)
    yield _pair("upstream", balancer.upstream)
    yield _command("test", balancer.test, ["docker", "exec", "edge", "nginx", "-t"])
    yield _command("reload", balancer.reload, ["docker", "exec", "edge", "nginx", "-s", "reload"])


def _silence(silence: Silence) -> Iterator[str]:
    yield "[[silence]]"
    yield _told(_pair("rule", silence.rule), "a finding of llamatop doctor")
    yield _pair("place", silence.place)
    if silence.reason is not None:
        yield _pair("reason", silence.reason)


def _command(key: str, words: tuple[str, ...], example: list[str]) -> str:
    if words:
        return _pair(key, list(words))
    stands_for = "nginx -t" if key == "test" else "systemctl reload"
    return f"# {_pair(key, example)}  # in place of {stands_for}"


def _pair(key: str, value: object) -> str:
    return f"{key} = {tomlkit.item(value).as_string()}"


def _told(pair: str, comment: str) -> str:
    return f"{pair:{_COMMENT_COLUMN - 2}}  # {comment}"


def _comments(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield f"# {_comment(line)}"


def _comment(text: str) -> str:
    """What a node said, on one line: a line break would end the comment."""
    return plain(text)


def _relative(path: Path, directory: Path | None) -> str:
    if directory is None:
        return str(path.absolute())
    whole, here = os.path.abspath(path), os.path.abspath(directory)  # noqa: PTH100 - as written
    inside = os.path.commonpath((whole, here)) == here
    return os.path.relpath(whole, here) if inside else whole
