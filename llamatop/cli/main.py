"""The command `llamatop`: finds the subcommand, runs it, and turns what it raises into a status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from llamatop import __version__
from llamatop.cli import streams
from llamatop.cli.options import add_common, add_record
from llamatop.cli.start import INTERRUPTED
from llamatop.errors import LlamatopError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

# Each module has add(subparsers): it registers its subcommands, each with set_defaults(run=run),
# run(args) -> exit status. Nothing heavy is imported before run.
MODULES = (
    "dashboard",
    "demo",
    "status",
    "watch",
    "replay",
    "logs",
    "change",
    "roll",
    "undo",
    "recover",
    "sudoers",
)
DASHBOARD = "dashboard"

EPILOG = """\
exit status: 0 fine, 1 unhealthy or a plan failed, 2 wrong usage, 3 nothing could be reached,
4 refused by a guard, 5 declined, 70 a fault of llamatop itself, 130 interrupted.
A host that is called like a command: llamatop -- status"""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaints are a UsageError of one line."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with the complaint and where the usage is told."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit status that CLI.md defines."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    streams.prepare(as_json="--json" in words)
    try:
        args = parse(words)
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except LlamatopError as error:
        if debug:
            _print_traceback()
        for line in str(error).splitlines() or [type(error).__name__]:
            streams.complain(line)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader left; what Python flushes at exit must not complain about it.
        streams.abandon_stdout()
        return 0
    except Exception as error:  # noqa: BLE001 - the last resort: nobody should see a traceback
        if debug:
            _print_traceback()
        reason = streams.stdout_fault(error)
        if reason is not None:
            streams.abandon_stdout()
            streams.complain(f"standard output takes no more: {reason}")
            return LlamatopError.exit_code
        path = _write_details(words)
        where = f"details are in {path}" if path else "run it again with --debug for details"
        kind = type(error).__name__
        streams.complain(f"this is a fault of llamatop itself ({kind}: {error}); {where}")
        return 70


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Words to options; options may stand before or after the subcommand; raises UsageError."""
    top = Parser(
        prog="llamatop",
        usage="llamatop [options] [-c FILE] [HOST…]\n       llamatop COMMAND [options]",
        description="A live dashboard over llama.cpp clusters, and the hands to operate them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_common(top)
    add_record(top)
    _add_version(top)
    commands = top.add_subparsers(title="commands", metavar="", dest="command")
    for module in MODULES:
        _register(module, commands)
    parsers = commands.choices
    for name, parser in parsers.items():
        parser.allow_abbrev = False
        parser.prog = "llamatop" if name == DASHBOARD else f"llamatop {name}"
        add_common(parser)
        _add_version(parser)

    place = first_positional(words, top)
    if place is None and {"-h", "--help", "--version"}.intersection(words):
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


def _print_traceback() -> None:
    import traceback

    traceback.print_exc()


def _write_details(words: Sequence[str]) -> Path | None:
    """Write the traceback into the user's state directory; None where that cannot be written."""
    import shlex
    import time
    import traceback
    from pathlib import Path

    from platformdirs import user_state_dir

    try:
        directory = Path(user_state_dir("llamatop"))
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / time.strftime("fault-%Y%m%d-%H%M%S.txt", time.gmtime())
        path.write_text(
            f"llamatop {__version__}, Python {sys.version}\n"
            f"llamatop {shlex.join(words)}\n\n{traceback.format_exc()}",
            encoding="utf-8",
        )
    except OSError:
        return None
    return path


if __name__ == "__main__":
    sys.exit(main())
