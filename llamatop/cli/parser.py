"""The command line: every subcommand's parser, the help that teaches them, and the parsing."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import NoReturn

from llamatop import __version__
from llamatop.cli.guide import EXAMPLES, EXIT_STATUS, GROUPS, START
from llamatop.cli.options import add_common, add_record
from llamatop.errors import UsageError

# Each module has add(subparsers): it registers its subcommands, each with set_defaults(run=run),
# run(args) -> exit status. Nothing heavy is imported before run.
MODULES = (
    "dashboard",
    "status",
    "watch",
    "logs",
    "replay",
    "doctor",
    "change",
    "roll",
    "undo",
    "recover",
    "demo",
    "discover",
    "schema",
    "sudoers",
    "completion",
)
DASHBOARD = "dashboard"
_HELPS = frozenset({"-h", "--help", "--version"})


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaints are a UsageError of one line."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with the complaint and where the usage is told."""
        raise UsageError(f"{message} (see {self.prog} --help)")


class _Formatter(argparse.HelpFormatter):
    """Wraps a paragraph, and leaves a text of several lines as it is written."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return "\n".join(indent + line for line in text.splitlines())
        return super()._fill_text(text, width, indent)


class TopParser(Parser):
    """The parser of `llamatop` itself: its help names the commands by what one wants to do."""

    def format_help(self) -> str:
        """The usage, where to start, the commands in groups, the options, the exit status."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        options = self._get_formatter()
        for group in self._action_groups:
            named = [action for action in group._group_actions if action.option_strings]
            if named:
                options.start_section(group.title)
                options.add_arguments(named)
                options.end_section()
        parts = (formatter.format_help(), START, *self._grouped(), options.format_help())
        return "\n".join((*parts, EXIT_STATUS))

    def _grouped(self) -> Iterator[str]:
        (commands,) = (
            action for action in self._actions if isinstance(action, argparse._SubParsersAction)
        )
        about = {action.dest: action.help or "" for action in commands._get_subactions()}
        placed = {name for _, names in GROUPS for name in names}
        rest = tuple(name for name in about if name not in placed)
        for title, names in (*GROUPS, ("more", rest)):
            lines = [f"  {name:12}{about[name]}\n" for name in names if name in about]
            if lines:
                yield f"{title}:\n{''.join(lines)}"


def build(modules: Sequence[str] = MODULES) -> tuple[Parser, dict[str, Parser]]:
    """The parser of these modules' commands, and each one's by its name."""
    top = _top()
    commands = top.add_subparsers(title="commands", metavar="", dest="command", parser_class=Parser)
    for module in modules:
        _register(module, commands)
    parsers = dict(commands.choices)
    for name, parser in parsers.items():
        parser.allow_abbrev = False
        parser.prog = "llamatop" if name == DASHBOARD else f"llamatop {name}"
        add_common(parser)
        _add_version(parser)
        _teach(parser, name)
    return top, parsers


def _top() -> Parser:
    """The parser of the options that stand before any subcommand."""
    top = TopParser(
        prog="llamatop",
        usage="llamatop [options] [-c FILE] [HOST…]\n       llamatop COMMAND [options]",
        description="A live dashboard over llama.cpp clusters, and the hands to operate them.",
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    add_common(top)
    add_record(top)
    _add_version(top)
    return top


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Words to options; options may stand before or after the subcommand; raises UsageError."""
    place = first_positional(words, _top())
    # Without a word there is the dashboard alone, which should be there at once.
    helps = not _HELPS.isdisjoint(words)
    top, parsers = build((DASHBOARD,) if place is None and not helps else MODULES)
    if place is None and helps:
        top.parse_args(words)
    command = words[place] if place is not None else DASHBOARD
    if place is not None and command in parsers:
        rest = [*words[:place], *words[place + 1 :]]
    else:
        command, rest = DASHBOARD, list(words)
    if command not in parsers:
        raise UsageError("the dashboard is not part of this installation")
    args = parsers[command].parse_intermixed_args(rest)
    args.command = command
    return args


def first_positional(words: Sequence[str], parser: argparse.ArgumentParser) -> int | None:
    """The index of the first word that is no option nor an option's value, None where `--` comes.

    Only words before `--` can be a subcommand.
    """
    takes_value = {
        option
        for action in parser._actions
        if action.option_strings and action.nargs is None
        for option in action.option_strings
    }
    skip = False
    for index, word in enumerate(words):
        if skip:
            skip = False
        elif word == "--":
            return None
        elif word.startswith("-") and word != "-":
            skip = word in takes_value
        else:
            return index
    return None


def _teach(parser: Parser, name: str) -> None:
    """Put the command's examples below its help."""
    examples = EXAMPLES.get(name)
    if examples is None:
        return
    parser.formatter_class = _Formatter
    text = "examples:\n" + "\n".join(f"  {line}" for line in examples)
    parser.epilog = f"{parser.epilog}\n\n{text}" if parser.epilog else text


def _add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action="version", version=f"llamatop {__version__}")


def _register(name: str, commands: argparse._SubParsersAction[Parser]) -> None:
    from importlib import import_module

    full = f"llamatop.cli.{name}"
    try:
        module = import_module(full)
    except ModuleNotFoundError as error:
        if error.name != full:
            raise
        return
    module.add(commands)
