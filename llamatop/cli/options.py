"""The options that every subcommand has, and the cluster that they name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from llamatop.errors import UsageError

if TYPE_CHECKING:
    from llamatop.model.declared import Cluster


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the common options of `llamatop` to a subcommand's parser."""
    group = parser.add_argument_group("common options")
    group.add_argument(
        "-c",
        "--cluster",
        metavar="FILE",
        type=Path,
        help="the cluster file (default ./cluster.toml, then your configuration directory's)",
    )
    group.add_argument(
        "--interval", metavar="S", type=_interval, help="seconds between two ticks (default 1)"
    )
    group.add_argument("--read-only", action="store_true", help="change nothing, offer no actions")
    group.add_argument(
        "--ssh-config", metavar="FILE", type=Path, help="instead of the user's ssh configuration"
    )
    group.add_argument(
        "--known-hosts", metavar="FILE", type=Path, help="instead of the user's known_hosts"
    )
    group.add_argument("--theme", metavar="NAME", help="the dashboard's theme")
    group.add_argument("--debug", action="store_true", help="show the traceback of a fault")


def add_hosts(parser: argparse.ArgumentParser) -> None:
    """Add HOST…: ssh names to look at without a file, or nodes of the file given with -c."""
    parser.add_argument(
        "hosts", metavar="HOST", nargs="*", help="ssh names; with -c, nodes of that file"
    )


def add_record(parser: argparse.ArgumentParser) -> None:
    """Add --record FILE, which every command that reads a cluster has."""
    parser.add_argument(
        "--record", metavar="FILE", type=Path, help="keep what is seen in FILE, for replay"
    )


def add_auto_drain(parser: argparse.ArgumentParser) -> None:
    """Add --auto-drain, which what runs for long has."""
    parser.add_argument(
        "--auto-drain",
        action="store_true",
        help="take dead members out of the upstream by itself, and put back those it took out",
    )


def auto_drains(args: argparse.Namespace) -> bool:
    """Whether --auto-drain was given; raises UsageError where nothing may be changed."""
    wanted: bool = getattr(args, "auto_drain", False)
    if wanted and args.read_only:
        raise UsageError("--auto-drain changes the cluster, --read-only forbids it: leave one out")
    return wanted


def find_cluster(args: argparse.Namespace, otherwise: Sequence[str] = ()) -> Cluster | None:
    """The cluster that the command line names, None where it names none and no file is found.

    -c FILE, else HOST…, else ./cluster.toml, else the user's configuration directory, else the
    hosts in `otherwise`. With both, HOST… are nodes of FILE. Raises ConfigError and UsageError.
    """
    from llamatop import config

    hosts: Sequence[str] = getattr(args, "hosts", None) or ()
    if args.cluster is not None:
        cluster = config.load(args.cluster)
        if hosts:
            cluster = _only(cluster, hosts)
    elif hosts:
        cluster = config.from_hosts(hosts)
    else:
        path = config.find()
        if path is not None:
            cluster = config.load(path)
        elif otherwise:
            cluster = config.from_hosts(otherwise)
        else:
            return None
    if args.interval is not None:
        cluster = replace(cluster, interval_seconds=args.interval)
    if args.ssh_config is not None:
        cluster = replace(cluster, ssh_config=_existing(args.ssh_config, "--ssh-config"))
    if args.known_hosts is not None:
        cluster = replace(cluster, known_hosts=args.known_hosts)
    return cluster


def require_cluster(args: argparse.Namespace, otherwise: Sequence[str] = ()) -> Cluster:
    """The cluster that the command line names; raises UsageError where there is none."""
    cluster = find_cluster(args, otherwise)
    if cluster is None:
        from llamatop.config import own_path

        raise UsageError(
            f"no cluster: there is no ./cluster.toml and no {_shown(own_path())}; name a file with"
            " -c FILE, or ssh hosts; `llamatop discover` writes a file, `llamatop demo` brings a"
            " cluster of its own"
        )
    return cluster


def _shown(path: Path) -> str:
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path)


def _only(cluster: Cluster, hosts: Sequence[str]) -> Cluster:
    names = {node.name for node in cluster.nodes}
    for host in hosts:
        if host not in names:
            known = ", ".join(node.name for node in cluster.nodes)
            raise UsageError(f"{host} is not a node of {cluster.path}; its nodes are {known}")
    nodes = tuple(node for node in cluster.nodes if node.name in hosts)
    balancer = cluster.balancer
    if balancer is not None and balancer.node not in hosts:
        balancer = None
    return replace(cluster, nodes=nodes, balancer=balancer)


def _existing(path: Path, option: str) -> Path:
    if not path.is_file():
        raise UsageError(f"{option}: there is no file {path}")
    return path


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 60:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 60")
    return seconds
