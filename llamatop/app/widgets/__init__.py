"""The panels: lines drawn on demand, only those that are visible and only when they changed."""
