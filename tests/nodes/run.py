"""One use of the machines, from a number that nobody else has to the last trace removed."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.nodes import leftovers
from tests.nodes.errors import NodesError
from tests.nodes.keys import Keys
from tests.nodes.network import Network, ip


class Run:
    """A number that is ours while this process lives, and with it the name of all that we make.

    Interfaces, machines and control groups are called `ltN…`, addresses are 198.18.N.x, files lie
    in `directory`. Several runs, of one checkout or many, go side by side. A context manager.
    """

    def __init__(self) -> None:
        leftovers.remove_dead()
        self._owned = ExitStack()
        self.number = self._take()
        self.directory: Path = leftovers.STATE / str(self.number)
        try:
            self.directory.mkdir(parents=True, mode=0o755)
            self.network = Network(self.number)
            self.keys = Keys(self.directory / "keys")
        except BaseException:
            self.close()
            raise

    def _take(self) -> int:
        for number in range(1, 255):
            attempt = ExitStack()
            if attempt.enter_context(leftovers.owned(number)):
                leftovers.remove(number)
                if not ip("route", "show", "root", f"198.18.{number}.0/24").strip():
                    self._owned = attempt
                    return number
            attempt.close()
        raise NodesError("all of 198.18.1.0/24 to 198.18.254.0/24 are in use by other runs")

    def close(self) -> None:
        """Remove every trace of the run."""
        leftovers.remove(self.number)
        self._owned.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
