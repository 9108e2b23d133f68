"""Is a Postgres answering, and would it let us in?

Owns: the first message of the Postgres protocol on a unix socket, and reading the first answer.
Refuses: authentication, queries, and every conclusion from a process id. A server is alive when it answers here.
"""

from __future__ import annotations

import socket
import struct
import sys
from pathlib import Path

_PROTOCOL_3 = 196608
# "sorry, too many clients already": full is not dead.
_FULL = b"C53300\0"


def answers(folder: Path, port: int, *, user: str, database: str, timeout: float = 2.0) -> bool:
    """Whether the server behind ``folder/.s.PGSQL.port`` takes connections within ``timeout`` seconds.

    False while it is starting, recovering or shutting down (it then answers with error 57P03), and when nobody listens.
    The socket lies in a folder that only the server's account can write, so an answer cannot come from another server,
    which an answer on a TCP port could.
    """
    if sys.platform == "win32":
        return False
    body = struct.pack("!i", _PROTOCOL_3) + f"user\0{user}\0database\0{database}\0\0".encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(timeout)
        try:
            s.connect(str(folder / f".s.PGSQL.{port}"))
            s.sendall(struct.pack("!i", len(body) + 4) + body)
            first = s.recv(1024)
        except OSError:
            return False
    return first[:1] == b"R" or (first[:1] == b"E" and _FULL in first)
