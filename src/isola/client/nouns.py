"""Requests common to networks, profiles, projects and storage pools."""

from __future__ import annotations

from isola.client.api import Api, cast, quote
from isola.client.operations import Operation, begin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Generic, TypeVar

    Info = TypeVar("Info")
else:
    Info = None

    class Generic:  # without importing typing
        def __class_getitem__(cls, parameter):
            return cls


class Nouns(Generic[Info]):
    """The objects below the path ``root``, by name. A synchronous response counts as a finished operation."""

    root: str

    def __init__(self, client: Api) -> None:
        self._client = client

    def all(self) -> list[Info]:
        """All that the caller may use."""
        return cast("list[Info]", self._client.get(self.root, {"recursion": 1}))

    def get(self, name: str) -> Info:
        """Raises NotFound."""
        return self.read(name)[0]

    def read(self, name: str) -> tuple[Info, str]:
        """The object and its ETag. Raises NotFound."""
        reply = self._client.call("GET", self._path(name))
        return cast("Info", reply.metadata), reply.etag

    def update(self, name: str, whole: Mapping[str, Any], *, etag: str = "") -> Operation:
        """Replace the editable fields; with ``etag`` only if it is unchanged."""
        headers = (("If-Match", etag),) if etag else ()
        return begin(self._client, "PUT", self._path(name), dict(whole), headers=headers)

    def rename(self, name: str, new: str) -> Operation:
        """Raises AlreadyExists, InUse."""
        return begin(self._client, "POST", self._path(name), {"name": new})

    def delete(self, name: str) -> Operation:
        """Raises InUse."""
        return begin(self._client, "DELETE", self._path(name))

    def _create(self, body: Mapping[str, object]) -> Operation:
        return begin(self._client, "POST", self.root, dict(body))

    def _path(self, name: str) -> str:
        return f"{self.root}/{quote(name)}"
