"""The terminal that the app draws on, which may go away at any moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from textual import events
from textual.drivers.linux_driver import LinuxDriver

if TYPE_CHECKING:
    from textual.app import App
    from textual.driver import Driver
    from textual.message import Message

    from llamatop.app.turns import Turns

HUNG_UP = 130
KEYS = (events.Key, events.MouseDown, events.MouseScrollDown, events.MouseScrollUp, events.Paste)


class Shown(Protocol):
    """An app that wants to know what becomes of its terminal, and at once of each key."""

    turns: Turns

    def hung_up(self) -> None:
        """The terminal is gone: put back what is half done, and end."""


class _Outlet:
    """A terminal's file that takes everything, and tells once when nobody reads it any more."""

    def __init__(self, file: IO[str], lost: Callable[[], None]) -> None:
        self._file = file
        self._lost = lost
        self._gone = False

    def write(self, text: str) -> None:
        """Write it, or let it go."""
        self._try(lambda: self._file.write(text))

    def flush(self) -> None:
        """Flush it, or let it go."""
        self._try(self._file.flush)

    def _try(self, do: Callable[[], object]) -> None:
        if self._gone:
            return
        try:
            do()
        except OSError:
            self._gone = True
            self._lost()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class Terminal(LinuxDriver):
    """Textual's own, where it goes away or stands still without holding up what the app does.

    A terminal tells that it is gone by SIGHUP only where it is the session's own; over a network
    that hangs it takes nothing, and Textual would wait for it with a plan half done.
    """

    def __init__(self, app: App[Any], **options: Any) -> None:
        super().__init__(app, **options)
        self._file = cast("Any", _Outlet(cast("IO[str]", self._file), self._lost))
        self._behind = False

    def send_message(self, message: Message) -> None:
        """Called by the thread that reads keys, which the loop may be too busy to hear of."""
        turns = getattr(self._app, "turns", None)
        if turns is not None and isinstance(message, KEYS):
            turns.came()
        super().send_message(message)

    def write(self, data: str) -> None:
        """Write, unless the terminal is behind: it is painted anew once it has caught up."""
        waiting = self._writer_thread._queue if self._writer_thread is not None else None
        if waiting is not None and waiting.full():
            self._behind = True
        elif self._behind and (waiting is None or waiting.empty()):
            self._behind = False
            self._app.call_later(self._app.refresh, layout=True)
        if not self._behind:
            super().write(data)

    def _lost(self) -> None:
        """Called by the writer's thread."""
        # What reads keys would find the end of its input again and again.
        self.exit_event.set()
        self._loop.call_soon_threadsafe(cast("Shown", self._app).hung_up)


def over(driver: type[Driver]) -> type[Driver]:
    """The driver to use in place of Textual's choice."""
    return Terminal if driver is LinuxDriver else driver
