"""The dashboard: a Textual app over a Source and an Operator."""
