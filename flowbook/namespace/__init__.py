"""Namespace checkpoints: what a notebook's variables are, kept after each cell and put back in another kernel."""
