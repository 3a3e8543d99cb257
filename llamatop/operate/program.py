"""The program that changes the balancer, as it travels there: its modules in one text."""

from __future__ import annotations

from functools import cache
from importlib import resources

from llamatop.model.plan import Command

# In the order in which they need each other.
MODULES = (
    "llamatop.probe.drains",
    *(
        f"onnode.{name}"
        for name in (
            *("running", "lock", "log", "files", "reload", "drains", "reshapes"),
            "membership",
        )
    ),
)
_BOOTSTRAP = (
    "import sys;exec(compile(sys.stdin.buffer.read(int(sys.argv[1])),'llamatop-membership','exec'))"
)
_LOADER = """\
import sys, types
def module(name):
    made = sys.modules[name] = types.ModuleType(name)
    parent, _, last = name.rpartition(".")
    if parent:
        if parent not in sys.modules:
            module(parent).__path__ = []
        setattr(sys.modules[parent], last, made)
        made.__package__ = parent
    return made
for name, text in {sources!r}:
    exec(compile(text, name.replace(".", "/") + ".py", "exec"), module(name).__dict__)
sys.exit(sys.modules["onnode.membership"].main())
"""


def command() -> Command:
    """What to start on the balancer; `source()` and one line of request go to its stdin."""
    return Command(("python3", "-c", _BOOTSTRAP, str(len(source()))))


@cache
def source() -> bytes:
    """The modules that run on the node, and what puts them together there."""
    return _LOADER.format(sources=[(name, _text(name)) for name in MODULES]).encode()


def _text(name: str) -> str:
    package, _, module = name.rpartition(".")
    folder = resources.files(__package__) / "onnode"
    if package != "onnode":
        folder = resources.files(package)
    return (folder / f"{module}.py").read_text("utf-8")
