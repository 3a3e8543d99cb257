"""`llamatop demo`: the dashboard over an embedded cluster, or that cluster alone with --write."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from llamatop.cli.options import add_record
from llamatop.demo.kinds import KINDS
from llamatop.errors import LlamatopError, UsageError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

MOST_NODES = 64
MOST_GPUS = 16
START_SECONDS = 10.0


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the subcommand."""
    width = max(map(len, KINDS))
    kinds = "\n".join(f"  {name:{width}}  {about}" for name, about in KINDS.items())
    parser = subparsers.add_parser(
        "demo",
        help="the dashboard over an embedded cluster",
        description="The dashboard over an embedded cluster: real sockets, simulated machines. "
        "F in the dashboard brings trouble on and takes it back; with --write the file DIR/faults "
        "does.",
        epilog=f"kinds of trouble for --fault:\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--nodes", metavar="N", type=_count(MOST_NODES), help="machines (default 2)"
    )
    parser.add_argument(
        "--gpus", metavar="M", type=_count(MOST_GPUS), help="cards each (default 2)"
    )
    parser.add_argument(
        "--like", metavar="FILE", type=Path, help="take the shape of this cluster file instead"
    )
    parser.add_argument(
        "--fault",
        metavar="KIND",
        dest="faults",
        action="append",
        default=[],
        choices=list(KINDS),
        help="let something go wrong; may be given several times",
    )
    add_record(parser)
    parser.add_argument(
        "--write",
        metavar="DIR",
        type=Path,
        help="no dashboard: run until interrupted, with cluster.toml, ssh_config, key and "
        "known_hosts in DIR",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo; returns the dashboard's exit status."""
    if args.cluster is not None:
        raise UsageError("the demo brings its own cluster: --like FILE takes the shape of a file")
    if args.like is not None and (args.nodes or args.gpus):
        raise UsageError("--like FILE says how many nodes there are: leave --nodes and --gpus out")
    if args.write is not None and args.record is not None:
        raise UsageError("--write DIR shows nothing that could be recorded: leave --record out")
    return _headless(args) if args.write is not None else _dashboard(args)


def _headless(args: argparse.Namespace) -> int:
    import signal

    from llamatop.demo.serve import Wish, serve

    directory = args.write.resolve()
    wish = Wish(directory, args.nodes or 2, args.gpus or 2, args.like, tuple(args.faults))

    def ready() -> None:
        import shlex

        settings = "".join(f"{name}={value} " for name, value in _keys(args).items())
        path = shlex.quote(str(directory / "cluster.toml"))
        print(f"llamatop: the demo is ready: {settings}llamatop -c {path}", flush=True)

    # What it leaves lying about is removed on the way out, so an interrupt has to be an exception.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    serve(wish, lambda: None, ready, until_input_ends=False)
    return 0


def _dashboard(args: argparse.Namespace) -> int:
    """The embedded cluster in a process of its own, the ordinary dashboard in this one."""
    import shutil
    import subprocess
    import tempfile

    from llamatop.cli.interrupt import undoing

    directory = Path(tempfile.mkdtemp(prefix="llamatop-demo-"))
    words = [sys.executable, "-m", "llamatop.demo", str(directory)]
    words += ["--nodes", str(args.nodes or 2), "--gpus", str(args.gpus or 2)]
    if args.like is not None:
        words += ["--like", str(args.like)]
    for kind in args.faults:
        words += ["--fault", kind]
    log = directory / "demo.log"
    with undoing(lambda: shutil.rmtree(directory, ignore_errors=True)):
        with log.open("wb") as errors:
            # In a session of its own: the terminal's interrupt is the dashboard's.
            process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        with undoing(lambda: _end(process)):
            # The dashboard's modules load while the cluster writes its files.
            from llamatop.cli import dashboard
            from llamatop.demo.switches import Switches

            _await_files(process, log)
            args.cluster, args.hosts = directory / "cluster.toml", []
            os.environ.update(_keys(args))
            return dashboard.run(args, Switches(directory))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let it end by the end of its input, which it is given three seconds for."""
    import contextlib
    import subprocess

    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(3)
    if process.poll() is None:
        process.kill()
        process.wait()


def _keys(args: argparse.Namespace) -> dict[str, str]:
    """The API keys that the file's workers want here, where the environment has none."""
    if args.like is None:
        return {}
    from llamatop import config
    from llamatop.demo.like import KEY

    declared = [worker for node in config.load(args.like).nodes for worker in node.workers]
    names = [worker.api_key_env for worker in declared if worker.api_key_env]
    return {name: KEY for name in names if name not in os.environ}


def _await_files(process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the cluster file is there; raises LlamatopError where it does not come."""
    import select

    assert process.stdout is not None
    if select.select([process.stdout], [], [], START_SECONDS)[0] and process.stdout.readline():
        return
    said = log.read_text(errors="replace").strip().splitlines()
    text = said[-1] if said else f"it did not start within {START_SECONDS:g} s"
    if process.poll() == UsageError.exit_code:
        raise UsageError("\n".join(said))
    raise LlamatopError(f"the demo: {text}")


def _count(most: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {most}")
        return int(text)

    return count
