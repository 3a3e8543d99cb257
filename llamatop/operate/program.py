"""The program that changes the balancer, as it travels there: its modules in one text."""

from __future__ import annotations

from functools import cache
from importlib import resources

from llamatop.model.plan import Command

# In the order in which they need each other.
MODULES = ("running", "lock", "files", "reload", "membership")
_BOOTSTRAP = (
    "import sys;exec(compile(sys.stdin.buffer.read(int(sys.argv[1])),'llamatop-membership','exec'))"
)
_LOADER = """\
import sys, types
package = types.ModuleType("onnode")
package.__path__ = []
sys.modules["onnode"] = package
for name, text in {sources!r}:
    module = types.ModuleType("onnode." + name)
    module.__package__ = "onnode"
    sys.modules[module.__name__] = module
    exec(compile(text, "llamatop/" + name + ".py", "exec"), module.__dict__)
sys.exit(sys.modules["onnode.membership"].main())
"""


def command() -> Command:
    """What to start on the balancer; `source()` and one line of request go to its stdin."""
    return Command(("python3", "-c", _BOOTSTRAP, str(len(source()))))


@cache
def source() -> bytes:
    """The modules that run on the node, and what puts them together there."""
    folder = resources.files(__package__) / "onnode"
    sources = [(name, (folder / f"{name}.py").read_text("utf-8")) for name in MODULES]
    return _LOADER.format(sources=sources).encode()
