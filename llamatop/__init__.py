"""A terminal dashboard and operator console for llama.cpp clusters."""

__version__ = "0.1.0"
