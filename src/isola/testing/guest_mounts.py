"""Mounts in the namespaces of fake processes."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from isola.errors import HostFailure, InvalidInput, NotFound, WrongState
from isola.host.guest_mounts import Graft, Tree
from isola.host.process import ProcessRef
from isola.testing.files import FakeFiles
from isola.testing.tree import find


class FakeGuestMounts:
    """The mounts of each process; they end with the process."""

    def __init__(self, files: FakeFiles) -> None:
        self._files = files
        self._gone: set[ProcessRef] = set()
        self._numbers = itertools.count(1000)
        self._prepared: dict[int, Graft] = {}
        self.inside: defaultdict[ProcessRef, dict[int, tuple[str, Graft]]] = defaultdict(dict)
        """Process -> mount id -> target and graft."""
        self.grafts: list[Graft] = []
        """All grafts that were prepared."""
        self.kinds: dict[str, str] = {}
        """Targets that already exist in every process: path -> ``file`` or ``directory``."""
        self.lent: list[tuple[ProcessRef, ProcessRef, str]] = []
        """Mounts that a process has from another one."""
        self.stuck = False
        """Whether unmounting fails."""

    @asynccontextmanager
    async def prepare(self, graft: Graft) -> AsyncIterator[Tree]:
        """A number."""
        kind = "directory"
        if graft.source is not None and not graft.file_system:
            try:
                kind = find(self._files.tree, graft.source).kind
            except (NotFound, InvalidInput) as error:
                raise NotFound(f"{graft.source} does not exist on the host") from error
        tree = Tree(next(self._numbers), kind == "directory")
        self._prepared[tree.number] = graft
        self.grafts.append(graft)
        yield tree
        self._prepared.pop(tree.number)

    async def put(self, process: ProcessRef, tree: Tree, target: str, *, owner: int) -> None:
        """Remember it."""
        self._require(process)
        parts = [part for part in target.split("/") if part not in ("", ".")]
        if not parts or ".." in parts:
            raise InvalidInput(f"Cannot mount on {target[:200]!r} inside")
        if tree.directory and parts[0] == "proc":
            raise InvalidInput(f"{target} cannot be mounted on: it is inside of /proc")
        kind = "directory" if tree.directory else "file"
        there = self.kinds.get(target, kind)
        if there != kind:
            raise InvalidInput(f"A {kind} cannot be mounted on {target}", evidence=f"inside it is a {there}")
        self.inside[process][tree.number] = (target, self._prepared[tree.number])

    async def lend(self, lender: ProcessRef, process: ProcessRef, target: str) -> None:
        """Remembered in ``lent``."""
        self._require(lender)
        self._require(process)
        self.lent.append((lender, process, target))

    async def take(self, process: ProcessRef, mount: int) -> None:
        """Remove it."""
        self._require(process)
        if self.stuck and mount in self.inside[process]:
            raise HostFailure("Cannot unmount a device inside the instance", evidence="hidden")
        self.inside[process].pop(mount, None)

    async def there(self, process: ProcessRef) -> frozenset[int]:
        """Numbers."""
        self._require(process)
        return frozenset(self.inside[process])

    @contextmanager
    def root(self, process: ProcessRef) -> Iterator[int]:
        """A number."""
        self._require(process)
        yield 0

    def vanish(self, process: ProcessRef) -> None:
        """The process has ended."""
        self._gone.add(process)
        self.inside.pop(process, None)

    def _require(self, process: ProcessRef) -> None:
        if process in self._gone:
            raise WrongState(f"Process {process.pid} has ended")
