"""The first module on a node: serves the others from memory and starts the probe.

`bundle.command` reads the payload there and executes this source with `sections` in its globals:
module names to compressed sources, each dropped when it is imported.
"""

from __future__ import annotations

import gc
import os
import sys
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict

    sections: Dict[str, bytes] = {}

_PACKAGES = ("llamatop", "llamatop.probe", "llamatop.engines", "json")


class Finder:
    """Finds the modules of the payload before any that are installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The module's specification, None for a module of the node's own."""
        if name not in sections:
            return None
        kind: Any = type(sys.__spec__)
        return kind(name, self, is_package=name in _PACKAGES)

    def create_module(self, specification: Any) -> None:
        """An ordinary module will do."""

    def exec_module(self, module: Any) -> None:
        """Compile without docstrings, which no person reads here, and run."""
        name = module.__spec__.name
        source = zlib.decompress(sections.pop(name))
        code = compile(source, "<%s>" % name, "exec", dont_inherit=True, optimize=2)
        del source
        exec(code, module.__dict__)  # noqa: S102 - it is our own payload


def start() -> None:
    """Import the probe and run it; what breaks it becomes its last line."""
    try:
        import json  # noqa: F401
    except ImportError:
        # python3-minimal: the payload's own will do
        pass
    else:
        for name in [name for name in sections if name.partition(".")[0] == "json"]:
            del sections[name]
    finder: Any = Finder()
    sys.meta_path.insert(0, finder)
    try:
        from llamatop import __version__
        from llamatop.probe import loop

        # what is imported stays: nothing of it needs to be looked at again
        gc.collect()
        gc.freeze()
        loop.main(__version__)
    except BaseException as error:
        place = ""
        trace = error.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            place = "%s:%d" % (code.co_filename.strip("<>"), trace.tb_lineno)
            trace = trace.tb_next
        text = "the probe failed: %s: %s (%s)" % (type(error).__name__, error, place)
        safe = "".join(
            letter if " " <= letter <= "~" and letter not in '"\\' else "?" for letter in text
        )
        os.set_blocking(1, True)
        os.write(1, ('{"fault":"%s"}\n' % safe[:500]).encode("ascii"))
        os._exit(1)


if __name__ == "llamatop-bootstrap":
    start()
