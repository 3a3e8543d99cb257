"""The process behind `llamatop demo`: tells whoever started it how far it is, ends with them.

Its standard output carries two lines: `written` when the files lie in the directory and the SSH
sockets listen, `ready` when everything answers.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llamatop.errors import LlamatopError

from .serve import Wish, serve


def main() -> int:
    """Read the arguments that cli/demo.py gives; the exit status is the error's."""
    parser = argparse.ArgumentParser(prog="llamatop-demo")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--like", type=Path)
    parser.add_argument("--fault", dest="faults", action="append", default=[])
    parser.add_argument(
        "--probes",
        choices=("real", "within"),
        help="a process for every node's probe, or none but the balancer's (default: by number)",
    )
    parser.add_argument("--seed", type=int)
    asked = vars(parser.parse_args())
    probes = asked.pop("probes")
    asked["faults"] = tuple(asked["faults"])
    wish = Wish(**asked, real_probes=None if probes is None else probes == "real")
    try:
        serve(wish, lambda: _tell("written"), lambda: _tell("ready"), until_input_ends=True)
    except LlamatopError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def _tell(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
