"""Runs the benchmarks: `python -m tests.benchmarks [NAME…]`; a module here with `run()` is one."""

from __future__ import annotations

import compileall
import importlib
import pkgutil
import signal
import sys
from pathlib import Path

import llamatop
import tests.benchmarks


def main() -> int:
    # What a benchmark started is ended on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found = [info.name for info in pkgutil.iter_modules(tests.benchmarks.__path__)]
    wanted = sys.argv[1:] or found
    unknown = [name for name in wanted if name not in found]
    if unknown:
        print(f"no benchmark called {unknown[0]!r}; there are: {', '.join(found)}", file=sys.stderr)
        return 2
    # As an installed llamatop is, also where Python is told to write no bytecode itself: else what
    # counts from exec has the compiler in it.
    compileall.compile_dir(Path(llamatop.__file__).parent, quiet=2)
    for name in wanted:
        module = importlib.import_module(f"tests.benchmarks.{name}")
        if not hasattr(module, "run"):
            continue
        print(f"{name}: {(module.__doc__ or '').strip().splitlines()[0]}", flush=True)
        for figure, value in module.run():
            print(f"  {figure:<58} {value}", flush=True)
    return 0


sys.exit(main())
