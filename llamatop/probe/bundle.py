"""The probe as it is sent to a node: one command, one payload, then lines. Runs on this side.

Start `command()` on the node, write `payload()`, `configuration(…)`, then `beat(n)` at least every
other second, and read lines. A node without python3 ends at once with status 127 and
`python3: command not found` on standard error; any other hindrance is a line `{"fault": "…"}`.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import threading
import zlib
from pathlib import Path

from llamatop.model.plan import Command

from . import bindings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

_NOT_SENT = ("__init__", "bootstrap", "bundle", "bindings")

_building = threading.Lock()

_BOOTSTRAP = """\
import os,sys
def stop(text):
    os.write(1,('{"fault":"%s"}\\n'%text).encode())
    sys.exit(0)
if sys.version_info<(3,8):
    stop("python3 here is %d.%d, the probe needs 3.8; install a newer one"%sys.version_info[:2])
try:
    import zlib
except ImportError:
    stop("python3 on this node lacks zlib; apt install python3")
left=int(sys.argv[1])
data=b""
while left>len(data):
    part=os.read(0,left-len(data))
    if not part:
        sys.exit(0)
    data+=part
head,_,data=data.partition(b"\\n")
sections={}
for item in head.decode().split(","):
    name,_,size=item.partition(" ")
    sections[name],data=data[:int(size)],data[int(size):]
del data,part
exec(zlib.decompress(sections.pop("bootstrap")),{"__name__":"llamatop-bootstrap","sections":sections})
"""


def command() -> Command:
    """What to start on the node; isolated from its user's Python settings, writing no files."""
    return Command(("python3", "-ISB", "-c", _BOOTSTRAP, str(len(payload()))))


def payload() -> bytes:
    """The bytes that `command()` reads first: modules, NVIDIA's bindings and a spare json.

    Built once, which takes about 0.1 s: call it from a thread before the first connection.
    """
    with _building:
        return _built()


@functools.lru_cache(maxsize=None)
def _built() -> bytes:
    sections = {name: zlib.compress(source, 9) for name, source in _sources()}
    head = ",".join(f"{name} {len(data)}" for name, data in sections.items())
    return head.encode() + b"\n" + b"".join(sections.values())


def _sources() -> Iterator[tuple[str, bytes]]:
    package = Path(__file__).parents[1]
    yield "bootstrap", (package / "probe" / "bootstrap.py").read_bytes()
    yield "llamatop", (package / "__init__.py").read_bytes()
    yield "llamatop.probe", b""
    for folder in ("engines", "probe"):
        for path in sorted((package / folder).glob("*.py")):
            if folder == "probe" and path.stem in _NOT_SENT:
                continue
            name = f"llamatop.{folder}"
            if path.stem != "__init__":
                name += f".{path.stem}"
            yield name, path.read_bytes()
    sources = [(package / "probe" / name).read_text() for name in ("nvml.py", "links.py")]
    calls = bindings.called("".join(sources))
    yield "pynvml", bindings.slim(_installed("pynvml").decode(), calls).encode()
    # python3-minimal has no json; its C half is missing there too, so any version's serves
    for name in ("json", "json.decoder", "json.encoder", "json.scanner"):
        yield name, _installed(name)


def _installed(name: str) -> bytes:
    """The source of a module installed on this side."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise ImportError(f"the probe needs the source of {name}", name=name)
    return Path(found.origin).read_bytes()


def configuration(
    interval: float,
    units: Sequence[str] = (),
    workers: Mapping[str, Mapping[str, str | None]] | None = None,
    balancer: Mapping[str, str] | None = None,
) -> bytes:
    """The line that sets the probe to work, and may change it later.

    `interval` in seconds; `units` shell globs, empty for every unit that runs a known engine;
    `workers` by unit: `url` and `key`; `balancer` {"kind": "nginx"} where this node may be it.
    """
    return _line(
        {
            "interval": interval,
            "units": list(units),
            "workers": {unit: dict(given) for unit, given in (workers or {}).items()},
            "balancer": None if balancer is None else dict(balancer),
        }
    )


def beat(number: int) -> bytes:
    """The line that keeps the probe alive for 5 s more."""
    return b'{"beat":%d}\n' % number


def now(number: int) -> bytes:
    """The line that has the node looked at once more, at once.

    Lines from then on carry `number` as "answered" once all in them was read after it arrived; a
    worker that has not answered since has its age in "ages".
    """
    return _line({"now": number})


def members(addresses: Sequence[str]) -> bytes:
    """The line that has the node ask who answers behind these addresses; empty ends that."""
    return _line({"members": list(addresses)})


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
