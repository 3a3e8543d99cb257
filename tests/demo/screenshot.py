"""Writes README's picture: the real dashboard over the real demo, as Textual exports it.

`python -m tests.demo.screenshot FILE.svg [COLUMNSxROWS [SECONDS]]`
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from llamatop import config
from llamatop.cli.dashboard import composed

COLUMNS, ROWS, SECONDS = 132, 40, 150.0


async def picture(cluster: Path, columns: int, rows: int, seconds: float) -> str:
    """The screen as SVG after `seconds` of watching, so that the histories have something."""
    app = composed(config.load(cluster), theme=None, read_only=False)
    async with app.run_test(size=(columns, rows)) as pilot:
        await pilot.pause(seconds)
        return app.export_screenshot(title="llamatop")


def main() -> int:
    file = Path(sys.argv[1])
    columns, rows = (int(n) for n in sys.argv[2].split("x")) if sys.argv[2:] else (COLUMNS, ROWS)
    seconds = float(sys.argv[3]) if sys.argv[3:] else SECONDS
    with tempfile.TemporaryDirectory() as folder:
        llamatop = Path(sys.executable).with_name("llamatop")
        demo = subprocess.Popen(
            [llamatop, "demo", "--write", folder], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        try:
            assert demo.stdout is not None
            demo.stdout.readline()
            svg = asyncio.run(picture(Path(folder, "cluster.toml"), columns, rows, seconds))
        finally:
            demo.terminate()
            demo.wait()
    # The exporter names a font on somebody's server; a picture should fetch nothing.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    file.write_text(svg)
    return 0


if __name__ == "__main__":
    sys.exit(main())
