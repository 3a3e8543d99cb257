"""The dashboard: a Textual app over a Source and an Operator."""

import os

# Textual paints one to two frames after it has painted: a key just then must not wait 33 ms.
os.environ.setdefault("TEXTUAL_FPS", "200")
