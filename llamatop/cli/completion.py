"""`llamatop completion SHELL`, and the answer to a shell that asks how its line may go on.

argcomplete knows the three shells' quoting and reads the parsers; what it cannot know is told here
by what the help calls a value: WORKER, HOST, FILE and so on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

SHELLS = ("bash", "zsh", "fish")

Values = Mapping[str, str]


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `completion`."""
    text = "print what makes your shell complete llamatop's words"
    parser = subparsers.add_parser(
        "completion",
        help=text,
        description=f"{text.capitalize()}: commands, options, themes, files, and workers by the"
        " names that they had when the cluster was last read; no node is contacted.",
    )
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the shell's code."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["llamatop"], shell=args.shell), end="")
    return 0


def answer() -> int:
    """Tell the shell that started this on Tab how the line may go on, on the descriptor it gave."""
    import sys

    from argcomplete.finders import CompletionFinder

    CompletionFinder()(parsers(), always_complete_options=False, exit_method=sys.exit)
    return 0


def parsers() -> argparse.ArgumentParser:
    """Every parser, each value with what may stand for it."""
    from llamatop.cli.parser import build

    top, commands = build()
    common = {action.dest for action in top._actions}
    for parser in (top, *commands.values()):
        for action in parser._actions:
            if parser is not top and action.dest in common:
                # What stands before the command stays.
                action.default = argparse.SUPPRESS
            if isinstance(action, argparse._SubParsersAction):
                action.completer = _hosts_too  # type: ignore[attr-defined]  # argcomplete's own
            elif action.choices is None:
                action.completer = _values(action)  # type: ignore[attr-defined]  # likewise
    return top


def workers(parsed_args: argparse.Namespace, **_: object) -> Values:
    """Workers as last seen, less those on the line, and a glob for each node with several."""
    from llamatop.cli.seen import recall

    file = _file(parsed_args)
    seen = recall(file)
    if file is not None:
        seen = {node: seen.get(node, []) for node in nodes(parsed_args)}
    given = getattr(parsed_args, "workers", None) or ()
    found = {name: "" for names in seen.values() for name in names if name not in given}
    several = {f"{node}/*": f"{len(names)} workers" for node, names in seen.items() if names[1:]}
    return {**found, **several}


def hosts(parsed_args: argparse.Namespace, **_: object) -> Values:
    """Nodes of the file given with -c, else the hosts of the ssh configuration."""
    if parsed_args.cluster is not None:
        return nodes(parsed_args)
    from llamatop.transport.ssh_hosts import ssh_hosts

    path = getattr(parsed_args, "ssh_config", None)
    given = getattr(parsed_args, "hosts", None) or ()
    return {name: "ssh host" for name in ssh_hosts(path) if name not in given}


def nodes(parsed_args: argparse.Namespace, **_: object) -> Values:
    """Nodes of the cluster file."""
    from llamatop import config
    from llamatop.errors import ConfigError

    path = _file(parsed_args)
    if path is None:
        return {}
    try:
        return {node.name: "" for node in config.load(path).nodes}
    except ConfigError:
        return {}


def themes(**_: object) -> Values:
    """The themes there are, the person's own among them."""
    from llamatop.app.theme_files import paths

    return dict.fromkeys(paths(), "")


def faults(**_: object) -> Values:
    """What can go wrong in the demo."""
    from llamatop.demo.kinds import KINDS

    return KINDS


def files(prefix: str, **_: object) -> Values:
    """Files and directories that begin so."""
    return _paths(prefix, lambda path: True)


def cluster_files(prefix: str, **_: object) -> Values:
    """Files that may be a cluster's."""
    return _paths(prefix, lambda path: path.suffix == ".toml")


def directories(prefix: str, **_: object) -> Values:
    """Directories alone."""
    return _paths(prefix, lambda path: False)


def users(prefix: str, **_: object) -> Values:
    """Users of this machine; they are mostly called the same on the nodes."""
    import pwd

    return {one.pw_name: "" for one in pwd.getpwall() if one.pw_name.startswith(prefix)}


def nothing(**_: object) -> Values:
    """What only the person knows."""
    return {}


VALUES: Mapping[str, Callable[..., Values]] = {
    "WORKER": workers,
    "HOST": hosts,
    "NODE": nodes,
    "FILE": files,
    "DIR": directories,
    "KIND": faults,
    "NAME": themes,
    "U": users,
}


def _values(action: argparse.Action) -> Callable[..., Values]:
    if action.dest in ("cluster", "like"):
        return cluster_files
    return VALUES.get(str(action.metavar), nothing)


def _hosts_too(parsed_args: argparse.Namespace, **_: object) -> Values:
    return hosts(parsed_args)


def _file(args: argparse.Namespace) -> Path | None:
    from llamatop import config

    given = getattr(args, "cluster", None)
    # The shell hands over ~ as it was typed.
    return given.expanduser() if isinstance(given, Path) else config.find()


def _paths(prefix: str, wanted: Callable[[Path], bool]) -> Values:
    head, slash, _ = prefix.rpartition("/")
    try:
        root = Path((head + slash) or ".").expanduser()
        there = sorted(root.iterdir())
    except (OSError, ValueError, RuntimeError):
        return {}
    found = {}
    for path in there:
        if path.name.startswith(".") and not prefix.rpartition("/")[2].startswith("."):
            continue
        word = f"{head}{slash}{path.name}"
        if path.is_dir():
            found[f"{word}/"] = ""
        elif wanted(path):
            found[word] = ""
    return found
