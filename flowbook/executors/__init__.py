"""Executors: where the bodies of steps run. One file per technology."""
