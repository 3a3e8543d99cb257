"""Cluster file, command-line hosts and API keys -> model.declared, or all problems at once."""

from .file import find, load, own_path
from .hosts import from_hosts
from .secrets import missing_secrets, secrets

__all__ = ["find", "from_hosts", "load", "missing_secrets", "own_path", "secrets"]
