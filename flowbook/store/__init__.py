"""Stores: where runs are kept. Postgres (embedded or not) in earnest, memory for tests and examples."""
