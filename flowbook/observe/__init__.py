"""Observing: what a run looks like from outside, as frozen view records; and who is told when it changes."""
