"""The screen of an instance: any number of connections of a viewer, each over a WebSocket, and a control channel."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.client.api import Api
    from isola.client.operations import Operation
    from isola.client.websocket import WebSocket


class Screen:
    """A screen that is being shown; it ends when ``control`` is closed."""

    def __init__(self, client: Api, operation: Operation) -> None:
        self.operation = operation
        self._client = client
        fds = operation.metadata.get("fds")
        if not isinstance(fds, dict) or not {"0", "control"} <= fds.keys():
            from isola.client.failures import BadReply

            raise BadReply("The daemon's response has no channels for the screen")
        self._secret = str(fds["0"])
        self.control: WebSocket = self._open(str(fds["control"]))

    def connect(self) -> WebSocket:
        """One more connection to it."""
        return self._open(self._secret)

    def close(self) -> None:
        """End all connections."""
        self.control.close()

    def _open(self, secret: str) -> WebSocket:
        return self._client.websocket(f"{self.operation.path}/websocket", {"secret": secret}).accept()
