"""Imports point down only: the layers of the design, read from the source itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "llamatop"
LAYERS = [
    "errors",
    "model",
    "resources",
    "files",
    "engines",
    "nginx",
    "config",
    "probe",
    "transport",
    "collect",
    "record",
    "advise",
    "operate",
    "bench",
    "demo",
    "app",
    "cli",
]
FORBIDDEN = {
    "app": {"transport", "nginx", "record", "demo"},
    "collect": {"demo"},
    "record": {"transport", "probe", "nginx", "config"},
    "operate": {"demo"},
    "advise": set(LAYERS) - {"model", "errors", "advise"},
    "model": set(LAYERS) - {"model"},
    "engines": set(LAYERS) - {"engines"},
}
THIRD_PARTY = {
    "paramiko": {"transport", "demo", "bench"},
    "httpx": {"transport", "demo", "bench"},
    "textual": {"app"},
    "crossplane": {"nginx", "demo"},
}
LITTLE_ELSE = {"errors", "model", "resources", "files", "engines", "probe"}
# What these may import beside the standard library.
BESIDE_IT = {"model": {"msgspec"}, "errors": {"msgspec"}, "probe": {"pynvml"}}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or layer(path))


def layer(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every imported module of a file as an absolute dotted name, with its line."""
    parts = ("llamatop", *path.relative_to(PACKAGE).with_suffix("").parts)
    package = parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join([*base, *([node.module] if node.module else [])])
            if stem == "llamatop" or node.module is None:
                for alias in node.names:
                    yield node.lineno, f"{stem}.{alias.name}"
            else:
                yield node.lineno, stem


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_lies_below_it(path: Path) -> None:
    mine = layer(path)
    assert mine in LAYERS, f"{path} belongs to no layer of the design"
    wrong = []
    for line, name in imports(path):
        top, _, rest = name.partition(".")
        if top == "llamatop":
            theirs = rest.partition(".")[0]
            if theirs in ("", "__version__"):
                continue
            above = LAYERS.index(theirs) > LAYERS.index(mine)
            if above or theirs in FORBIDDEN.get(mine, ()):
                wrong.append(f"{path.name}:{line} {mine} imports {name}")
        elif top in THIRD_PARTY and mine not in THIRD_PARTY[top]:
            wrong.append(f"{path.name}:{line} {mine} imports {top}")
        elif mine in LITTLE_ELSE and not (
            top in sys.stdlib_module_names or top in BESIDE_IT.get(mine, ())
        ):
            wrong.append(f"{path.name}:{line} {mine} may not import {top}")
    assert not wrong, "\n".join(wrong)


HEADLESS = ("status", "watch", "logs", "doctor", "start", "drain", "roll")


@pytest.mark.parametrize("command", HEADLESS)
def test_headless_subcommands_never_import_textual(command: str) -> None:
    program = (
        "import sys, contextlib\n"
        "from llamatop.cli.main import main\n"
        f"sys.argv = ['llamatop', {command!r}, '-c', '/nonexistent/cluster.toml', 'x']\n"
        "with contextlib.suppress(SystemExit):\n"
        "    main()\n"
        "print('LOADED', 'textual' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert "LOADED False" in done.stdout, done.stdout + done.stderr


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys, contextlib\n"
        "from llamatop.cli.main import main\n"
        "sys.argv = ['llamatop', '--help']\n"
        "with contextlib.suppress(SystemExit):\n"
        "    main()\n"
        "heavy = {'textual', 'paramiko', 'httpx', 'rich', 'asyncio', 'crossplane'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert "usage" in done.stdout.lower(), done.stdout + done.stderr
    assert "HEAVY []" in done.stdout, done.stdout + done.stderr


def _loaded(program: str, names: str) -> str:
    """Which of the modules `names`, or modules below them, a program of its own has loaded."""
    program += (
        "\nimport sys\n"
        f"wanted = {names.split()!r}\n"
        "print('LOADED', [one for one in wanted"
        " if any(name == one or name.startswith(one + '.') for name in sys.modules)])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout.strip() or done.stderr


@pytest.mark.slow
def test_the_first_frame_waits_for_nothing_that_it_does_not_show() -> None:
    program = "import llamatop.cli.dashboard, llamatop.app.app"
    assert (
        _loaded(
            program, "llamatop.advise.doctor llamatop.advise.fit llamatop.operate.service paramiko"
        )
        == "LOADED []"
    )


@pytest.mark.slow
def test_ssh_goes_without_invoke_and_leaves_it_to_others() -> None:
    program = "import llamatop.transport.ssh"
    assert _loaded(program, "invoke unittest yaml") == "LOADED []"
    assert _loaded(program + "\nimport invoke", "invoke paramiko") == (
        "LOADED ['invoke', 'paramiko']"
    )
