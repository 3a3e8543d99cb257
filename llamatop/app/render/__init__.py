"""Snapshot to Rich text: pure functions of what they are given, no widget and no clock."""
