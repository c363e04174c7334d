"""Switches a connection to another protocol (``101 Switching Protocols``)."""

from __future__ import annotations

from isola.client.api import Api

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.client.interpreter import socket


def upgrade(client: Api, path: str, protocol: str) -> tuple[socket, bool]:
    """The socket, which the caller closes, and whether it uses TLS. Raises the daemon's error."""
    headers = (("Upgrade", protocol), ("Connection", "Upgrade"))
    connection = client.send("GET", path, headers=headers)
    try:
        response = connection.receive()
        taken, ahead = connection.take_over()
        if response.status != 101 or response.headers.get("upgrade") != protocol or ahead:
            from isola.client.failures import BadReply
            from isola.client.reply import Reply

            Reply.read(response)
            raise BadReply(f"The daemon does not support {protocol}", evidence=f"status {response.status}")
        return taken, connection.secure
    except BaseException:
        connection.close()
        raise
