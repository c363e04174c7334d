"""What Incus and we have in common: the REST API 1.0 on a Unix socket."""

import json
from typing import ClassVar

from bench.connection import Connection
from bench.shell import Trouble
from bench.subject import Subject


class LxdLike(Subject):
    """Verbs over the API; ``connection`` is opened by ``start``."""

    connection: Connection
    socket: ClassVar[str] = "unix.socket"

    def connect(self, directory: str) -> None:
        """Open the connection that the API verbs share."""
        self.connection = Connection(f"{directory}/{self.socket}")

    def api_noop(self) -> None:
        """The root of the API."""
        self.connection.get("/1.0")

    def api_list(self) -> None:
        """Instances without their states."""
        self._expect_list(self.connection.get("/1.0/instances?recursion=1"))

    def api_list_full(self) -> None:
        """Instances with their states."""
        self._expect_list(self.connection.get("/1.0/instances?recursion=2"))

    def api_exec_true(self, name: str) -> None:
        """Two requests: start it, wait for it."""
        body = {"command": ["/bin/true"], "wait-for-websocket": False, "interactive": False, "environment": {}}
        answer = self.connection.post(f"/1.0/instances/{name}/exec", body)
        done = json.loads(self.connection.get(f"{answer['operation']}/wait"))
        if done["metadata"]["metadata"].get("return") != 0:
            raise Trouble(f"exec ended with {done['metadata']}")

    @staticmethod
    def _expect_list(answer: bytes) -> None:
        if len(answer) < 1000:
            raise Trouble(f"this is no list of instances: {answer[:200]!r}")
