"""A wire tap of our own: a TCP proxy that counts what a client asks of Postgres.

The engine's crash points are taken by a hook in its driver. This is the witness that no statement goes past that hook:
it reads the protocol itself: Parse (``P``) says which SQL a prepared statement has, each Bind (``B``) runs one, and a
Query (``Q``) is run as it stands.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from typing import Self

from sqlalchemy.engine import make_url


class Wiretap:
    """``async with Wiretap(url) as tap``: connect to ``tap.url``, then read ``tap.asked``, the SQL that was run."""

    def __init__(self, url: str) -> None:
        self._to = make_url(url)
        self.asked: list[str] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = self._to.set(host="127.0.0.1", port=port).render_as_string(hide_password=False) + "?sslmode=disable"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(self._to.host, self._to.port)
        try:
            await asyncio.gather(self._requests(reader, up_writer), self._answers(up_reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            for end in (up_writer, writer):
                end.close()
                with suppress(OSError):
                    await end.wait_closed()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = struct.unpack("!I", await reader.readexactly(4))[0]  # the first message alone has no letter
        writer.write(struct.pack("!I", size) + await reader.readexactly(size - 4))
        prepared: dict[bytes, str] = {}
        while True:
            kind = await reader.readexactly(1)
            head = await reader.readexactly(4)
            body = await reader.readexactly(struct.unpack("!I", head)[0] - 4)
            match kind:
                case b"P":
                    name, sql, _ = body.split(b"\0", 2)
                    prepared[name] = sql.decode()
                case b"B":
                    self.asked.append(prepared[body.split(b"\0", 2)[1]])
                case b"Q":
                    self.asked.append(body.rstrip(b"\0").decode())
                case _:
                    pass  # flow control, passwords: nothing is run
            writer.write(kind + head + body)
            await writer.drain()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
