"""Objects on the host without a record, and copies of the daemon's database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict, cast

from isola.client.api import Api
from isola.client.operations import Operation, begin
from isola.client.reply import Reply

_ROOT = "/1.0/isola"


class UnknownInfo(TypedDict, total=False):
    """An object on the host without a record."""

    type: str
    id: str
    name: str
    adoptable: bool
    pool: str
    path: str
    running: bool
    size: int
    count: int


class Admin:
    """Isola's own part of the API."""

    def __init__(self, client: Api) -> None:
        self._client = client

    def unknown(self) -> list[UnknownInfo]:
        """All objects on the host without a record."""
        return cast("list[UnknownInfo]", self._client.get(f"{_ROOT}/unknown"))

    def adopt(self, kind: str, id: str, name: str = "") -> Operation:
        """Recreate the object's record from the metadata that is stored with it; ``name`` replaces its name."""
        return self._act("adopt", kind, id, name)

    def remove(self, kind: str, id: str) -> Operation:
        return self._act("remove", kind, id)

    def state(self) -> Iterator[bytes]:
        """The daemon's database as one file, in blocks."""
        response = self._client.exchange("GET", f"{_ROOT}/state")
        try:
            if response.status >= 400:
                Reply.read(response)
            yield from response
        finally:
            self._client.release(response)

    def _act(self, action: str, kind: str, id: str, name: str = "") -> Operation:
        body = {"action": action, "type": kind, "id": id, "name": name}
        return begin(self._client, "POST", f"{_ROOT}/unknown", body)
