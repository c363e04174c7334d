"""Mounts in the mount namespace of another process: disks that are attached to a running instance.

The instance is hostile. Its paths are resolved by the kernel below its root (``RESOLVE_IN_ROOT``), once, into a
descriptor, and the mount is attached to that descriptor, so concurrent changes of symbolic links have no effect. Root
inside may change its mount namespace, so the attributes of mounts are locked (``sealed_mounts``): it could clear them
otherwise. The thread that enters the mount namespace stays in the host's user namespace, and reads no file there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from isola.errors import Forbidden, HostFailure, InvalidInput, NotFound
from isola.host import kernel, partial_mounts, sealed_mounts, superblocks
from isola.host.credentials import owner_of_files
from isola.host.mount_table import MountTable
from isola.host.proc import ProcessRef, open_of
from isola.host.threads import in_thread
from isola.model.identity import IdRange

T = TypeVar("T")
_IN_ROOT = kernel.RESOLVE_IN_ROOT | kernel.RESOLVE_NO_MAGICLINKS
_HIDDEN = "unmount what hides it inside the instance, or stop the instance"
_STACKED = 32
"""Maximum number of mounts on top of the daemon's mount that are removed with it."""
_TABLE_LIMIT = 16 << 20
_UNSHIFTABLE = (errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP)
"""Of file systems whose mounts cannot be id-mapped."""
PROPAGATIONS = ("private", "shared", "slave", "unbindable")


@dataclass(frozen=True, slots=True)
class Graft:
    """What is mounted inside: a file or directory of the host, or a new tmpfs if ``source`` is None."""

    source: Path | None = None
    beneath: Path | None = None
    """``source`` is resolved below this directory, and symbolic links must not leave it: others may write there."""
    read_only: bool = False
    recursive: bool = False
    """Include the mounts below ``source``."""
    propagation: str = "private"
    """One of PROPAGATIONS, for mounts made later. Mounts made inside are never visible on the host."""
    idmap: IdRange | None = None
    """Shift the ids of the files' owners into this range; None: unchanged."""
    partial: bool = False
    """Mounts that cannot be shifted (``/proc``, overlays) are left as they are, instead of refusing all."""
    nodes: bool = False
    """Device nodes in it may be opened, if the control group allows them too."""
    set_ids: bool = True
    executable: bool = True
    file_system: str = ""
    """Kind of the file system that is on ``source``, a block device: it is mounted in its place."""
    size: int = 0
    """Maximum size of a tmpfs in bytes."""
    owner: int = 0
    """Host id of the owner of a tmpfs's root directory."""
    group: int | None = None
    """None: as ``owner``."""
    mode: int = 0o755
    """Permission bits of a tmpfs's root directory."""

    def describe(self) -> str:
        """One line for messages."""
        return str(self.source) if self.source is not None else f"a tmpfs of {self.size} bytes"


@dataclass(frozen=True, slots=True)
class Tree:
    """A detached mount."""

    number: int
    """Its mount id, which attaching does not change."""
    directory: bool
    """Whether it must be mounted on a directory, or on a file."""
    descriptor: int = -1


class GuestMounts(Protocol):
    """Attaches mounts in the namespace of a process, and detaches them. Raises WrongState if it has ended."""

    def prepare(self, graft: Graft) -> AbstractAsyncContextManager[Tree]:
        """Create a detached mount, which disappears at the end of the context unless it was attached.

        Raises NotFound (no source), HostFailure.
        """
        ...

    async def put(self, process: ProcessRef, tree: Tree, target: str, *, owner: int) -> None:
        """Mount on the absolute path ``target`` inside.

        Missing parts of the path are created, and belong to host id ``owner``. Raises InvalidInput (a file on a
        directory or the reverse), HostFailure; nothing is mounted then.
        """
        ...

    async def lend(self, lender: ProcessRef, process: ProcessRef, target: str) -> None:
        """Mount what the lender has at an absolute path at the same path of the process. Raises HostFailure."""
        ...

    async def take(self, process: ProcessRef, mount: int) -> None:
        """Unmount it, even if busy, with mounts on top of it; no effect if it does not exist. Raises HostFailure."""
        ...

    async def there(self, process: ProcessRef) -> frozenset[int]:
        """Ids of all mounts that the process sees."""
        ...

    def root(self, process: ProcessRef) -> AbstractContextManager[int]:
        """An ``O_PATH`` descriptor of the root directory of the process."""
        ...


class LinuxGuestMounts:
    """By ``open_tree`` and ``fsopen`` here, ``openat2`` and ``move_mount`` in a thread inside."""

    @asynccontextmanager
    async def prepare(self, graft: Graft) -> AsyncIterator[Tree]:
        made: list[Tree] = []
        try:
            await in_thread(lambda: made.append(_prepared(graft)))
            yield made[0]
        finally:
            for tree in made:
                os.close(tree.descriptor)

    async def put(self, process: ProcessRef, tree: Tree, target: str, *, owner: int) -> None:
        await in_thread(_put, process, tree, target, owner)

    async def lend(self, lender: ProcessRef, process: ProcessRef, target: str) -> None:
        await in_thread(_lend, lender, process, target)

    async def take(self, process: ProcessRef, mount: int) -> None:
        await in_thread(_take, process, mount)

    async def there(self, process: ProcessRef) -> frozenset[int]:
        return await in_thread(lambda: frozenset(_points(process)))

    @contextmanager
    def root(self, process: ProcessRef) -> Iterator[int]:
        descriptor = open_of(process, "root", os.O_PATH | os.O_DIRECTORY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _prepared(graft: Graft) -> Tree:
    with contextlib.ExitStack() as stack:
        source = None
        if graft.source is not None:
            source = _opened(graft, graft.source)
            stack.callback(os.close, source)
        directory = source is None or bool(graft.file_system) or stat.S_ISDIR(os.fstat(source).st_mode)
        try:
            made = _tree(graft, source)
            stack.callback(os.close, made)
            tree = sealed_mounts.sealed(made, directory=directory, recursive=graft.recursive)
            with _closed_on_failure(tree):
                if graft.propagation != _first_propagation(graft):
                    kernel.set_attributes(tree, 0, propagation=graft.propagation, recursive=graft.recursive)
                return Tree(kernel.mount_of(tree), directory, tree)
        except OSError as error:
            raise _failure(f"Cannot prepare {graft.describe()} for an instance", error, graft) from error


@contextlib.contextmanager
def _closed_on_failure(descriptor: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        os.close(descriptor)
        raise


def _put(process: ProcessRef, tree: Tree, target: str, owner: int) -> None:
    table = open_of(process, "mountinfo")

    def inside(root: int) -> None:
        try:
            place = _place(root, target, directory=tree.directory, owner=owner)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise InvalidInput(
                f"{target} cannot be mounted on: it leads through too many links", field="path"
            ) from error
        try:
            if tree.directory:
                _require_other_than_proc(table, root, place, target)
            kernel.attach_tree_to(tree.descriptor, place)
        finally:
            os.close(place)

    try:
        _inside(process, inside, f"Cannot mount on {target} inside the instance")
    finally:
        os.close(table)


def _require_other_than_proc(table: int, root: int, place: int, target: str) -> None:
    """Engines that enter an instance write to its ``/proc``, which therefore must be the kernel's."""
    mounts = MountTable(table, root, trusted=True)
    if mounts.mount(place, mounts.root).kind == "proc":
        raise InvalidInput(f"{target} cannot be mounted on: it is inside of /proc", field="path")


def _lend(lender: ProcessRef, process: ProcessRef, target: str) -> None:
    def borrowed(root: int) -> int:
        found = kernel.open_beneath(root, os.fsencode(target.lstrip("/")), os.O_PATH, _IN_ROOT)
        try:
            return kernel.clone_tree_of(found)
        finally:
            os.close(found)

    descriptor = _inside(lender, borrowed, f"Cannot share {target} of another instance")
    try:
        _put(process, Tree(0, directory=True, descriptor=descriptor), target, 0)
    finally:
        os.close(descriptor)


def _take(process: ProcessRef, mount: int) -> None:
    # Opened on the host, because the instance controls what is mounted on its own /proc.
    table = open_of(process, "mountinfo")

    def inside(root: int) -> None:
        for _ in range(_STACKED):
            point = _parsed(table).get(mount)
            if point is None:
                return
            parent, _, name = point.rpartition(b"/")
            above = kernel.open_beneath(root, parent.lstrip(b"/") or b".", os.O_PATH | os.O_DIRECTORY, _IN_ROOT)
            try:
                kernel.unmount_in(above, name)
            finally:
                os.close(above)
        raise OSError(errno.EBUSY, "too many mounts are on top of it")

    try:
        _inside(process, inside, "Cannot unmount a device inside the instance", _HIDDEN)
    finally:
        os.close(table)


def _opened(graft: Graft, source: Path) -> int:
    """An ``O_PATH`` descriptor of the source, so that exactly the file that was checked is mounted."""
    try:
        if graft.beneath is None:
            return os.open(source, os.O_PATH | os.O_CLOEXEC)
        above = os.open(graft.beneath, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            path = os.fsencode(source.relative_to(graft.beneath))
            return kernel.open_beneath(above, path, os.O_PATH, kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_MAGICLINKS)
        finally:
            os.close(above)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"{source} does not exist on the host") from error
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise Forbidden(
                f"{source} leads out of {graft.beneath}", remedy="name a path without symbolic links that leave it"
            ) from error
        raise HostFailure(f"Cannot examine {source}", evidence=str(error)) from error


def _tree(graft: Graft, source: int | None) -> int:
    """A descriptor of a detached mount with its attributes."""
    if source is None:
        group = graft.owner if graft.group is None else graft.group
        options = {"source": "tmpfs", "size": str(graft.size), "mode": f"{graft.mode:o}"}
        options |= {"uid": str(graft.owner), "gid": str(group)}
        tree = kernel.new_file_system("tmpfs", options)
    elif graft.file_system:
        options = {"source": f"/proc/self/fd/{source}", **superblocks.options_of(graft.file_system)}
        tree = kernel.new_file_system(graft.file_system, options, read_only=graft.read_only)
    else:
        tree = kernel.clone_tree_of(source, recursive=graft.recursive)
    try:
        attributes = kernel.MOUNT_ATTR_RDONLY if graft.read_only else 0
        attributes |= 0 if graft.nodes else kernel.MOUNT_ATTR_NODEV
        attributes |= 0 if graft.set_ids else kernel.MOUNT_ATTR_NOSUID
        attributes |= 0 if graft.executable else kernel.MOUNT_ATTR_NOEXEC
        with contextlib.ExitStack() as stack:
            space = None
            if graft.idmap is not None:
                space = kernel.user_namespace(graft.idmap.base, graft.idmap.size)
                stack.callback(os.close, space)
            give = partial(kernel.set_attributes, propagation=_first_propagation(graft))
            try:
                give(tree, attributes, space, recursive=graft.recursive)
            except OSError as error:
                if space is None or source is None or not graft.partial or error.errno not in _UNSHIFTABLE:
                    raise
                made = partial_mounts.shifted(source, give, attributes, space, recursive=graft.recursive)
                os.close(tree)
                return made
    except BaseException:
        os.close(tree)
        raise
    return tree


def _first_propagation(graft: Graft) -> str:
    """The propagation until the attributes are locked, which copies the mount and turns a shared one into a slave."""
    return {"private": "private", "unbindable": "private"}.get(graft.propagation, "slave")


def _place(root: int, target: str, *, directory: bool, owner: int) -> int:
    """An ``O_PATH`` descriptor of the mount point. Missing parts of the path are created one after the other."""
    parts = [part for part in target.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise InvalidInput(f"Cannot mount on {target[:200]!r} inside", remedy="name an absolute path below /")
    for count in range(1, len(parts) + 1):
        path = os.fsencode("/".join(parts[:count]))
        last = count == len(parts)
        try:
            found = kernel.open_beneath(root, path, os.O_PATH, _IN_ROOT)
        except FileNotFoundError:
            found = _made(
                root, os.fsencode("/".join(parts[: count - 1])), parts[count - 1], directory or not last, owner
            )
        if last:
            if stat.S_ISDIR(os.fstat(found).st_mode) != directory:
                os.close(found)
                what, there = ("directory", "file") if directory else ("file", "directory")
                raise InvalidInput(
                    f"A {what} cannot be mounted on {target}", evidence=f"inside it is a {there}", field="path"
                )
            return found
        os.close(found)
    raise AssertionError


def _made(root: int, parent: bytes, name: str, directory: bool, owner: int) -> int:
    """Create a directory or an empty file, and open it without following a link that may have replaced it."""
    above = kernel.open_beneath(root, parent or b".", os.O_PATH | os.O_DIRECTORY, _IN_ROOT)
    try:
        # File systems mounted in the instance's user namespace refuse new files of ids that are not mapped there.
        with contextlib.suppress(FileExistsError), owner_of_files(owner):
            if directory:
                os.mkdir(name, 0o755, dir_fd=above)
            else:
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=above))
        flags = kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_SYMLINKS
        return kernel.open_beneath(above, os.fsencode(name), os.O_PATH, flags)
    finally:
        os.close(above)


def _points(process: ProcessRef) -> dict[int, bytes]:
    """Mount id -> mount point, as the process sees it."""
    table = open_of(process, "mountinfo")
    try:
        return _parsed(table)
    finally:
        os.close(table)


def _parsed(table: int) -> dict[int, bytes]:
    os.lseek(table, 0, os.SEEK_SET)
    data = b""
    while len(data) < _TABLE_LIMIT and (block := os.read(table, 1 << 16)):
        data += block
    fields = (line.split(b" ", 5) for line in data.split(b"\n")[:-1])
    return {int(line[0]): kernel.unescaped(line[4]) for line in fields if len(line) > 4}


def _inside(process: ProcessRef, work: Callable[[int], T], message: str, remedy: str = "") -> T:
    """Call ``work`` with the root directory of the process, in a thread that has entered its mount namespace.

    The root of the process need not be that of the namespace.
    """
    with contextlib.ExitStack() as stack:
        namespace = open_of(process, "ns/mnt")
        stack.callback(os.close, namespace)
        root = open_of(process, "root", os.O_PATH | os.O_DIRECTORY)
        stack.callback(os.close, root)
        return _within(namespace, partial(work, root), message, remedy)


def _within(namespace: int, work: Callable[[], T], message: str, remedy: str) -> T:
    outcome: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            kernel.enter_mounts(namespace)
            os.umask(0)
            outcome.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="isola-guest-mounts")
    thread.start()
    thread.join()
    if failed and isinstance(failed[0], OSError):
        raise HostFailure(message, evidence=str(failed[0]), remedy=remedy) from failed[0]
    if failed:
        raise failed[0]
    return outcome[0]


def _failure(message: str, error: OSError, graft: Graft) -> HostFailure:
    remedy = ""
    if graft.idmap is not None and error.errno in _UNSHIFTABLE:
        remedy = "its file system, or one mounted below it, cannot be id-mapped: set shift.partial, or leave out shift"
    return HostFailure(message, evidence=str(error), remedy=remedy)
