"""One kept-open HTTP connection over a Unix socket, like that of a monitoring program."""

import http.client
import json
import socket
from typing import Any

from bench.shell import Trouble


class Connection(http.client.HTTPConnection):
    """HTTP/1.1 on a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self.path)

    def get(self, path: str) -> bytes:
        """The body of a resource."""
        return self._send("GET", path, None)

    def post(self, path: str, body: object) -> Any:
        """The JSON response to a request."""
        return json.loads(self._send("POST", path, json.dumps(body)))

    def act(self, method: str, path: str, body: object = None) -> Any:
        """The metadata of the response; waits for an operation in the background."""
        return self.wait(self.begin(method, path, body))

    def begin(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """The whole response; does not wait for an operation."""
        answer: dict[str, Any] = json.loads(self._send(method, path, None if body is None else json.dumps(body)))
        return answer

    def wait(self, answer: dict[str, Any]) -> Any:
        """The metadata of a response, or of its operation after the end."""
        if answer["type"] != "async":
            return answer["metadata"]
        ended = json.loads(self.get(f"{answer['operation']}/wait"))["metadata"]
        if ended["status_code"] != 200:
            raise Trouble(f"{ended['description']} ended with {ended['status']}: {ended['err']}")
        return ended["metadata"]

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
