"""The commands that change a cluster, up to the plan: what they say where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# Patience without end: what is refused all the same was not waited for.
ENDLESS = (
    "import sys, llamatop.cli.change as change\n"
    "from llamatop.cli.main import main\n"
    "change._PATIENCE_SECONDS = 1e6\n"
    "sys.exit(main(sys.argv[1:]))\n"
)
WORKER = '[[node.worker]]\nunit = "other"\napi_key_env = "NO_SUCH_KEY"\n'


def test_a_name_that_no_node_has_is_refused_once_they_are_read(tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text('[[node]]\nname = "here"\nssh = "local"\n' + WORKER)
    for action in ("drain", "start"):
        done = subprocess.run(
            [sys.executable, "-c", ENDLESS, action, "here/gpu0", "--yes", "-c", file],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        warned, refused = done.stderr.splitlines()
        assert "the variable NO_SUCH_KEY is not set" in warned
        assert refused.startswith("llamatop: no worker or unit is called here/gpu0")
