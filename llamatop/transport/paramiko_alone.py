"""paramiko without `invoke`, to be imported before whatever else imports paramiko.

It runs `Match exec` in paramiko's own reader of ssh configurations, which is not used here: `ssh`
itself is asked. With its YAML, its mocks and its command line it takes longer to import than all
the rest of paramiko, which does without it where it is not installed.
"""

from __future__ import annotations

import sys

_UNLOADED = "invoke" not in sys.modules
if _UNLOADED:
    # This is how Python keeps that something cannot be imported.
    sys.modules["invoke"] = None  # type: ignore[assignment]
try:
    import paramiko as paramiko
finally:
    if _UNLOADED:
        del sys.modules["invoke"]
