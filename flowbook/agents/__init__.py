"""Agents: loops of a model and its tools, as ordinary graphs. Each name is imported from its own module."""
