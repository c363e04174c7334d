"""Events of the daemon as they happen."""

from __future__ import annotations

from isola.client import json
from isola.client.api import Api, cast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from isola.client.shapes import EventInfo


class Follower:
    """An open stream of events: an iterator and a context manager."""

    def __init__(self, client: Api, types: tuple[str, ...]) -> None:
        self._socket = client.websocket("/1.0/events", {"type": ",".join(types)} if types else None).accept()

    def __iter__(self) -> Iterator[EventInfo]:
        while (message := self._socket.receive()) is not None:
            event = json.decode(message)
            if isinstance(event, dict):
                yield cast("EventInfo", event)

    def fileno(self) -> int:
        """For ``select.poll``."""
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
