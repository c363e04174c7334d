"""Copies of records beside the data that they describe, from which records can be restored after a loss of state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from isola.errors import IsolaError, NotFound
from isola.host.building import NewFile
from isola.host.files import Files
from isola.state.collection import Codec

T = TypeVar("T")
_SUFFIX = ".json"


class Described(Generic[T]):
    """A directory of descriptions by name, readable by root alone. An unchanged description is not written again."""

    def __init__(self, files: Files, directory: Path, codec: Codec[T]) -> None:
        self._files = files
        self._directory = directory
        self._codec = codec
        self._known: dict[str, bytes] = {}
        self.loaded = False

    async def read(self, name: str) -> T | None:
        """One description; None if it is missing or unreadable."""
        try:
            return self._codec.decode(await self._files.read(self.place(name)))
        except (IsolaError, ValueError, TypeError, LookupError, AttributeError):
            return None

    async def load(self) -> Mapping[str, T]:
        """All readable descriptions, by name; unreadable ones are skipped. Not while any is written."""
        self._known = {
            file.removesuffix(_SUFFIX): data
            for file, data in (await self._files.read_all(self._directory)).items()
            if file.endswith(_SUFFIX) and not file.startswith(".")
        }
        self.loaded = True
        found = {}
        for name, data in self._known.items():
            try:
                found[name] = self._codec.decode(data)
            except (ValueError, TypeError, LookupError, AttributeError):
                continue
        return found

    async def write(self, name: str, record: T) -> None:
        """On disk when this returns. Raises HostFailure."""
        data = self._codec.encode(record)
        if self._known.get(name) == data:
            return
        path = self.place(name)
        self._known.pop(name, None)  # unknown while it is being written
        try:
            await self._files.write(path, data)
        except NotFound:
            await self._files.make_directory(self._directory, mode=0o700)
            await self._files.flush(self._directory.parent)
            await self._files.write(path, data)
        self._known[name] = data

    async def write_with(self, name: str, record: T, create: Callable[[NewFile], Awaitable[None]]) -> None:
        """Have ``create`` write a new description together with what it describes, durably."""
        data = self._codec.encode(record)
        self._known.pop(name, None)
        await create(NewFile(self.place(name), data))
        self._known[name] = data

    async def forget(self, name: str) -> None:
        """Its file was removed by another way."""
        self._known.pop(name, None)

    async def remove(self, name: str) -> None:
        """The removal is durable on return; no effect if there is none."""
        await self._files.remove_tree(self.place(name), flush=(self._directory,))
        self._known.pop(name, None)

    def place(self, name: str) -> Path:
        """Its file."""
        return self._directory / f"{name}{_SUFFIX}"
