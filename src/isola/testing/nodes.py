"""Device nodes in the fake file system."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from isola.errors import HostFailure, InvalidInput, NotFound
from isola.host.nodes import DeviceNumber, HostNode
from isola.testing.files import FakeFiles
from isola.testing.tree import Node, find


class FakeNodes:
    """``devices`` are those of the host; new nodes are files in the fake file system."""

    def __init__(self, files: FakeFiles) -> None:
        self._files = files
        self.devices: dict[Path, DeviceNumber] = {Path("/dev/kvm"): DeviceNumber(True, 10, 232)}
        self.file_systems: dict[Path, str] = {}
        """By block device."""
        self.exhausted = False
        """Whether nothing more can be followed."""
        self.followers: list[tuple[Path, Callable[[], object]]] = []

    async def file_system(self, path: Path) -> str:
        return self.file_systems.get(path, "")

    def follow(self, path: Path, on_change: Callable[[], object]) -> Callable[[], None]:
        """Called by ``plug`` and ``unplug``."""
        if self.exhausted:
            raise HostFailure("Cannot watch for devices")
        entry = (path, on_change)
        self.followers.append(entry)
        return lambda: self.followers.remove(entry) if entry in self.followers else None

    def plug(self, path: Path, number: DeviceNumber) -> None:
        """A device comes."""
        self.devices[path] = number
        self._notify(path)

    def unplug(self, path: Path) -> None:
        """A device goes."""
        self.devices.pop(path, None)
        self._notify(path)

    def _notify(self, path: Path) -> None:
        for followed, on_change in list(self.followers):
            if followed == path:
                on_change()

    async def everything(self) -> Sequence[HostNode]:
        """Those of ``devices``."""
        return [HostNode(path, number, 0o660, 0, 0) for path, number in sorted(self.devices.items())]

    async def find(self, path: Path) -> DeviceNumber:
        if path in self.devices:
            return self.devices[path]
        try:
            find(self._files.tree, path)
        except NotFound as error:
            raise NotFound(f"{path} does not exist on the host") from error
        raise InvalidInput(f"{path} is not a device")

    async def make(self, path: Path, number: DeviceNumber, *, uid: int, gid: int, mode: int) -> None:
        """A file that contains the device number."""
        node = Node("other", mode, uid, gid, number.rule.encode())
        find(self._files.tree, path.parent).children[path.name] = node
