"""The first run, composed: the ssh configuration's hosts, the looking and the writing."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llamatop.app.first import Choice
    from llamatop.app.screens.look import Look
    from llamatop.model.cluster import ClusterSnapshot


def ask(args: argparse.Namespace) -> tuple[Choice | None, int]:
    """Ask what to open; the choice, None where the person left, and the exit status."""
    from llamatop.app.first import FirstRunApp
    from llamatop.cli import interrupt
    from llamatop.transport.ssh_hosts import ssh_hosts

    app = FirstRunApp(ssh_hosts(args.ssh_config), Scout(args), theme=args.theme)
    choice = interrupt.run(app.run_async())
    if app.return_code == interrupt.INTERRUPTED:
        return None, interrupt.INTERRUPTED
    return choice, 70 if app.return_code else 0


class Scout:
    """Looks through ssh, with the options that the command line gave."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args

    @property
    def places(self) -> Sequence[Path]:
        """The person's own, which is found from anywhere, and the one here."""
        from llamatop.config import own_path

        return (own_path(), Path("cluster.toml"))

    @asynccontextmanager
    async def looks(self, hosts: Sequence[str]) -> AsyncIterator[Look]:
        """A running collector over these hosts alone; raises ConfigError where one is no host."""
        import asyncio

        from llamatop.cli.options import require_cluster

        cluster = require_cluster(argparse.Namespace(**{**vars(self._args), "hosts": list(hosts)}))
        # A quarter of a second of imports, in a thread so that keys are answered meanwhile.
        await asyncio.to_thread(_load)
        from llamatop.cli.reading import opened

        async with opened(cluster) as (collector, _):
            yield collector

    def text(self, snapshot: ClusterSnapshot, place: Path) -> str:
        """As `llamatop discover` writes it."""
        from llamatop.config.written import written

        return written(snapshot, place.absolute().parent)

    def write(self, place: Path, text: str) -> None:
        """Never over another file; raises Refused and UsageError."""
        from llamatop.config import own_path, placing
        from llamatop.errors import UsageError

        if place == own_path():
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"{place.parent} cannot be made: {error.strerror}") from None
        placing.place(place, text)


def _load() -> None:
    import llamatop.cli.reading  # noqa: F401
