"""The upstream members in the nginx files that a balancer's probe sent."""

from __future__ import annotations

from msgspec.structs import replace

from llamatop import nginx
from llamatop.errors import NginxSyntaxError
from llamatop.model.balancing import Proxying
from llamatop.model.observed import NodeSnapshot, UpstreamMember


class Upstreams:
    """Fills `balancer.members`; files that did not change are not parsed again."""

    def __init__(self) -> None:
        self._files: object = None
        self._main: object = None
        self._members: tuple[UpstreamMember, ...] | None = None
        self._fault: str | None = None
        self._error: str | None = None
        self._shutdown_timeout: str | None = None
        self._proxying: Proxying | None = None

    def complete(self, snapshot: NodeSnapshot, document: object) -> NodeSnapshot:
        """The snapshot with its members, or with the reason why they are unknown in its faults."""
        balancer = snapshot.balancer
        if balancer is None or not isinstance(document, dict):
            return snapshot
        source = document.get("balancer")
        files = source.get("files") if isinstance(source, dict) else None
        main = source.get("main") if isinstance(source, dict) else None
        if files is not self._files or main != self._main:
            self._files, self._main = files, main
            self._error = None
            try:
                texts, self._fault = _texts(files, main)
                self._members = self._shutdown_timeout = self._proxying = None
                if texts is not None and isinstance(main, str):
                    self._members = nginx.members(texts, main)
                    self._shutdown_timeout = nginx.shutdown_timeout(texts, main)
                    self._proxying = nginx.proxying(texts, main)
            except NginxSyntaxError as error:
                self._members = self._shutdown_timeout = self._proxying = None
                self._error = str(error)
                self._fault = f"nginx's configuration does not parse: {error}"
        faults = snapshot.faults
        fault = balancer.fault
        if self._fault is not None:
            faults = {"balancer": self._fault, **faults}
            fault = fault or self._fault
        return replace(
            snapshot,
            faults=faults,
            balancer=replace(
                balancer,
                members=self._members,
                shutdown_timeout=self._shutdown_timeout,
                proxying=self._proxying if fault is None else None,
                fault=fault,
                config_valid=False if self._error else balancer.config_valid,
                config_error=self._error or balancer.config_error,
            ),
        )


def _texts(files: object, main: object) -> tuple[dict[str, bytes] | None, str | None]:
    """The files' bytes by path, or why they are unknown; neither where none were sent."""
    if files is None:
        return None, None
    if not isinstance(files, dict) or not isinstance(main, str):
        return None, "the probe sent nginx's files in a form that is not understood"
    texts: dict[str, bytes] = {}
    for path, entry in files.items():
        text = entry.get("text") if isinstance(entry, dict) else None
        if isinstance(text, str):
            try:
                texts[path] = text.encode("latin-1")
            except UnicodeEncodeError:
                return None, f"{path}: the probe sent text that is no bytes"
    return texts, None
