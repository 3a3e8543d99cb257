"""The command palette: every action, every theme."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from llamatop.app import theme_files
from llamatop.app.actions import keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from llamatop.app.app import LlamatopApp


class Commands(Provider):
    """What can be done from the screen the palette was opened on."""

    def _listed(self) -> list[tuple[str, str, Callable[[], object]]]:
        app = cast("LlamatopApp", self.app)
        listed: list[tuple[str, str, Callable[[], object]]] = [
            (
                key.brief or key.text,
                f"{key.shown}: {key.text}",
                partial(self.screen.run_action, key.action),
            )
            for key in keys(app.read_only, practice=app.switches is not None)
            if key.action and key.key not in ("ctrl+p", "escape")
        ]
        if not app.read_only:
            for node in app.snapshot.nodes:
                text = f"restart the workers of {node.name}, one after another"
                listed.append((f"roll {node.name}", text, partial(app.action_roll, node.name)))
        listed.append(("picture", "save this screen as an SVG file here", app.save_picture))
        for name in sorted(theme_files.paths()):
            listed.append((f"theme {name}", "colours", partial(app.use_theme, name)))
        return listed

    async def discover(self) -> Hits:
        """All of them, before anything is typed."""
        for name, text, run in self._listed():
            yield DiscoveryHit(name, run, help=text)

    async def search(self, query: str) -> Hits:
        """Those that match."""
        matcher = self.matcher(query)
        for name, text, run in self._listed():
            score = max(matcher.match(name), matcher.match(text) * 0.5)
            if score > 0:
                yield Hit(score, matcher.highlight(name), run, help=text)
