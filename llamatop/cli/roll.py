"""`llamatop roll`: workers restarted one after another while the others serve."""

from __future__ import annotations

import argparse

from llamatop.cli.change import add_options


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `roll`."""
    parser = subparsers.add_parser(
        "roll",
        help="restart workers, one after another, while the others serve",
        description="Drain, restart, wait for health and put back in, one worker after another;"
        " ^Z pauses between two workers, ctrl-c finishes the one at hand and stops.",
    )
    parser.add_argument(
        "workers", metavar="WORKER", nargs="*", help="node/short or a glob (default: all workers)"
    )
    parser.add_argument(
        "--at-once", metavar="K", type=_count, default=1, help="so many together (default 1)"
    )
    parser.add_argument(
        "--keep",
        metavar="N",
        type=_count,
        default=1,
        help="members of each upstream that stay in at any time (default 1)",
    )
    add_options(parser, "roll")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of workers")
    return int(text)
