"""Common base of Incus and Isola: the REST API 1.0 on a Unix socket."""

import json
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar

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

    def act(self, method: str, path: str, body: object = None) -> Any:
        """One request and the end of its operation; the requests of both are the same."""
        return self.connection.act(method, path, body)

    def act_each(self, requests: Sequence[tuple[str, str, object]], at_once: int = 8) -> None:
        """Many requests, some at once; raises the first Trouble when all have ended."""
        troubles: list[Trouble] = []
        waiting: deque[dict[str, Any]] = deque()
        for method, path, body in requests:
            if len(waiting) >= at_once:
                self._collect(waiting.popleft(), troubles)
            try:
                waiting.append(self.connection.begin(method, path, body))
            except Trouble as trouble:
                troubles.append(trouble)
        while waiting:
            self._collect(waiting.popleft(), troubles)
        if troubles:
            raise troubles[0]

    def _collect(self, answer: dict[str, Any], troubles: list[Trouble]) -> None:
        try:
            self.connection.wait(answer)
        except Trouble as trouble:
            troubles.append(trouble)

    @staticmethod
    def _expect_list(answer: bytes) -> None:
        if len(answer) < 1000:
            raise Trouble(f"this is no list of instances: {answer[:200]!r}")
