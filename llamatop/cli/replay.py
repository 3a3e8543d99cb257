"""`llamatop replay FILE`: a session seen again, on the same screens or as JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from llamatop.errors import UsageError

if TYPE_CHECKING:
    from llamatop.app.replay import ReplayApp
    from llamatop.record.player import Player


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `replay`."""
    parser = subparsers.add_parser(
        "replay",
        help="a recorded session seen again",
        description="A recording made with --record, on the same screens: nothing is connected to"
        " and nothing can be changed.",
    )
    parser.add_argument("recording", metavar="FILE", type=Path, help="what --record wrote")
    parser.add_argument(
        "--json", action="store_true", help="no screen: the object of `status --json`, one a tick"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show the recording until the person quits; with --json, print all of it."""
    from llamatop.cli import interrupt

    if args.cluster is not None:
        raise UsageError("a recording brings its own cluster: leave -c out")
    terminal = all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
    if not args.json and not terminal:
        raise UsageError("the replay needs a terminal; `llamatop replay FILE --json` needs none")
    from llamatop.record.player import Player

    player = Player(args.recording)
    if args.json:
        return interrupt.run(_print(player))
    from llamatop.app.replay import ReplayApp

    app = ReplayApp(player, theme=args.theme)
    interrupt.run(_show(app, player))
    return 70 if app.return_code else 0


async def _show(app: ReplayApp, player: Player) -> None:
    from llamatop.app import cycles

    async with player, cycles.seldom(app.turns.quiet):
        await app.run_async()


async def _print(player: Player) -> int:
    from llamatop.cli.render_json import to_line

    async with player:
        async for snapshot in player.all():
            print(to_line(snapshot), flush=True)
    return 0
