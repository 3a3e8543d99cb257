"""`llamatop recover`: what killed or lost plans left drained, or half-changed, put right."""

from __future__ import annotations

import argparse

from llamatop.cli import change


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `recover`."""
    parser = subparsers.add_parser(
        "recover",
        help="put back what plans that were cut off left drained",
        description="Put back, once it answers, what plans that were cut off left drained, whoever"
        " made them; repair nginx's files where a change was killed half-way; and make a split or"
        " unsplit whole that was cut off: on where the new workers serve, else back, without the"
        " unit files that it wrote. What cannot be put right now is named, with status 1.",
    )
    parser.add_argument("workers", metavar="WORKER", nargs="*", help="these alone; default: all")
    change.add_asking(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make the plan, show it, ask, carry it out."""
    args.workers = args.workers or ["*"]
    return change.run(args)
