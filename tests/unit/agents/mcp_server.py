"""A real MCP server on stdio, for tests: argv may name a file that gets a line at each start."""

import os
import sys

from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("test")
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cfc0f01f00050001ff"
    "a5f45d8f0000000049454e44ae426082"
)


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def picture() -> Image:
    """A picture of a point."""
    return Image(data=PIXEL, format="png")


@server.tool()
def fail(why: str) -> str:
    """Fail."""
    raise ToolError(why)


@server.tool()
def die() -> str:
    """End the server."""
    os._exit(3)


@server.tool()
def token() -> str:
    """The last letters of a key that the environment has."""
    return os.environ.get("SERVER_TOKEN", "none")[-3:]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        with open(sys.argv[1], "a") as file:  # noqa: PTH123
            file.write("started\n")
    print("a word on stderr", file=sys.stderr)
    server.run()
