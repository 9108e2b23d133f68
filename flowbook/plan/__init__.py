"""Deciding: records, events, commands, and the pure functions between them. Pure: no asyncio, no SQL, no IPython."""
