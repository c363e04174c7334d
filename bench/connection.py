"""One kept-open HTTP connection over a Unix socket, as a monitoring program would hold."""

import http.client
import json
import socket
from typing import Any

from bench.shell import Trouble


class Connection(http.client.HTTPConnection):
    """HTTP/1.1 on a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._path)

    def get(self, path: str) -> bytes:
        """The body of a resource."""
        return self._send("GET", path, None)

    def post(self, path: str, body: object) -> Any:
        """The JSON answer to a request."""
        return json.loads(self._send("POST", path, json.dumps(body)))

    def _send(self, method: str, path: str, body: str | None) -> bytes:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            response, answer = self._ask(method, path, body, headers)
        except (ConnectionError, http.client.CannotSendRequest):
            self.close()  # Incus closes idle and long used connections
            response, answer = self._ask(method, path, body, headers)
        if response.status >= 400:
            raise Trouble(f"{method} {path} was answered {response.status}: {answer[:300]!r}")
        return answer

    def _ask(
        self, method: str, path: str, body: str | None, headers: dict[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        self.request(method, path, body, headers)
        response = self.getresponse()
        return response, response.read()
