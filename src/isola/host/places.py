"""Start programs in another mount namespace or control group than the daemon.

A thread enters it, starts the program and ends, so that nothing has to be undone after a failure, and no wrapper such
as nsenter has to be spawned.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from isola.errors import HostFailure
from isola.host import kernel
from isola.host.cgroup_tree import write

T = TypeVar("T")
_NETWORK_SETTINGS = Path("/proc/sys/net")
_HARMLESS = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC


@dataclass(frozen=True, slots=True)
class Place:
    """Where a program is started. Defaults are the daemon's own."""

    hides_network_settings: bool = False
    """In a copy of the mount namespace whose ``/proc/sys/net`` has nothing but all of proc, as a directory ``whole``.

    Not together with ``mounts``.
    """

    mounts: Path | None = None
    """A path to a mount namespace."""
    shelf: Path | None = None
    """A directory there. With one, the namespace is a copy that ends with the last process in it."""
    shelved: Sequence[Path] = ()
    """Paths of ours that appear in the copy, with all that is mounted below them."""
    groups: Sequence[Path] = ()
    """Directories of control groups of v1, in which nothing is frozen or short of memory or processor time.

    A thread of ours is in them for a moment.
    """

    def seen(self, path: Path) -> Path:
        """Where a path of ours is there. Pure."""
        if self.shelf is None or path not in self.shelved:
            return path
        return self.shelf / str(list(self.shelved).index(path))


HERE = Place()


def going_to(place: Place, work: Callable[[], T]) -> T:
    """What ``work`` returns in ``place``. Raises what it raises, and HostFailure where there is no way there."""
    if place == HERE:
        return work()

    def there() -> T:
        # By thread: to move a whole process makes the kernel wait for a grace period of tens of milliseconds.
        try:
            for group in place.groups:
                write(f"{group}/tasks", "0")
            if place.mounts is not None:
                _enter(place, place.mounts)
            elif place.hides_network_settings:
                _hide_network_settings()
        except OSError as error:
            raise HostFailure(
                "A program cannot be started in its namespace or control group", evidence=str(error)
            ) from error
        return work()

    return in_passing_thread(there)


def in_passing_thread(work: Callable[[], T]) -> T:
    """In a thread that ends afterwards, because it cannot leave the namespaces and control groups that it enters."""
    outcome: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="isola-passing")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return outcome[0]


def _enter(place: Place, mounts: Path) -> None:
    with contextlib.ExitStack() as stack:
        copies = [(stack.enter_context(_copy(source)), source) for source in place.shelved]
        directories = {source for source in place.shelved if source.is_dir()}
        namespace = os.open(mounts, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, namespace)
        kernel.enter_mounts(namespace)
        if place.shelf is not None:
            kernel.unshare(kernel.CLONE_NEWNS)
            _put_up(place.shelf)
        for tree, source in copies:
            target = place.seen(source)
            if source in directories:
                target.mkdir()
            else:
                target.touch()
            kernel.attach_tree(tree, target)


@contextlib.contextmanager
def _copy(source: Path) -> Iterator[int]:
    tree = kernel.clone_tree(source, recursive=True)
    try:
        kernel.set_attributes(tree, 0, propagation="private", recursive=True)
        yield tree
    finally:
        os.close(tree)


def _hide_network_settings() -> None:
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.make_private(Path("/"))
    kernel.mount("isola", _NETWORK_SETTINGS, "tmpfs", "size=4k,mode=755", _HARMLESS)
    whole = _NETWORK_SETTINGS / "whole"
    whole.mkdir()
    kernel.mount("proc", whole, "proc", "", _HARMLESS)


def _put_up(shelf: Path) -> None:
    """In memory, and of this copy alone. An instance's root must find its way through."""
    tree = kernel.new_file_system("tmpfs", {"source": "isola", "mode": "0755", "size": "64k"})
    try:
        kernel.attach_tree(tree, shelf)
    finally:
        os.close(tree)
