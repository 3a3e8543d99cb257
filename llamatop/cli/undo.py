"""`llamatop undo`: the last membership change taken back."""

from __future__ import annotations

import argparse

from llamatop.cli.change import add_options


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `undo`."""
    parser = subparsers.add_parser(
        "undo",
        help="take back your last membership change of this cluster",
        description="Take back the last membership change of this cluster that you made from this"
        " machine, as far as nobody has changed it since.",
    )
    add_options(parser, "undo")
    parser.set_defaults(workers=[])
