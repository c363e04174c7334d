"""Mounts on the host: overlays of id-mapped layers, bind mounts with shifted ids, and disks or disk images."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from isola.errors import HostFailure, NotFound
from isola.host import kernel, loops
from isola.host.proc import ProcessRef, open_of
from isola.host.threads import in_thread
from isola.model.identity import IdRange

_OPTIONS = "index=off,xino=off,metacopy=off,redirect_dir=nofollow"
"""Without redirects and metadata-only copies: an untrusted layer could contain forged xattrs of both."""
_OPTIONS_SIZE = 4095
"""``mount(2)`` takes one page of options."""
_TRUSTED_FOR = 0.2
"""Seconds for which a file system that has responded is not accessed again: many instances may start at once."""
_MEMORY_SOURCE = "isola"
_MEMORY_SIZE = "10%"
"""Of the host's memory; what is not used takes none."""
_REASONS = {
    errno.EINVAL: "the kernel lacks overlay over id-mapped layers (Linux 5.19), or the file system below lacks them",
    errno.ENOSYS: "the kernel is too old: Linux 5.19 is needed",
    errno.ENODEV: "the kernel has no overlay file system: load the module 'overlay'",
    errno.EPERM: "it needs root with CAP_SYS_ADMIN, and a file system that can be id-mapped",
    errno.ENOSPC: "too many user namespaces or mounts: raise user.max_user_namespaces or fs.mount-max",
}
_DISK_REASONS = {
    errno.EINVAL: "it has no file system of this kind, or a damaged one: the kernel's log (dmesg) says more",
    errno.ENODEV: "the kernel lacks this file system: load its module",
    errno.ENOENT: "is the loop module loaded, and does /dev/loop-control exist?",
    errno.EBUSY: "it is in use, or mounted elsewhere",
}


@dataclass(frozen=True, slots=True)
class OverlayMount:
    """An overlay whose lower layers are id-mapped: their ids are shifted into ``idmap`` without changing files."""

    lower: tuple[Path, ...]
    """Bottom layer first; at least one."""
    upper: Path | None
    """None: a read-only overlay, which needs at least two layers and has no ``idmap``."""
    work: Path | None
    """On the file system of ``upper``. While mounting, layers with shifted ids are briefly mounted on it."""
    target: Path
    idmap: IdRange | None = None

    def describe(self) -> str:
        """One line for plans and messages."""
        return f"overlay of {len(self.lower)} layer(s) on {self.target}"


@dataclass(frozen=True, slots=True)
class BindMount:
    """A bind mount of a directory, with ids of its files shifted into ``idmap``."""

    source: Path
    target: Path
    idmap: IdRange | None = None
    """Ids ``inner .. inner+size-1`` of the source are mapped to this range, and back when files are written."""
    inner: int = 0
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class DiskMount:
    """A file system on a block device, or in an image file, which is attached to a loop device while mounted."""

    source: Path
    target: Path
    kind: str
    options: str = ""


@dataclass(frozen=True, slots=True)
class MemoryMount:
    """A new file system in memory, for files of the daemon: without programs, devices and set-user-id."""

    target: Path
    mode: int
    """Permissions of its root."""


class Mounts(Protocol):
    """Mount, unmount, and list mounts."""

    async def bind(self, mount: BindMount) -> None:
        """Mount the source without the mounts below it; both directories must exist. Raises HostFailure."""
        ...

    async def disk(self, mount: DiskMount) -> None:
        """Mount. The loop device is released if this fails, if the daemon is killed, or after the unmount.

        Raises HostFailure.
        """
        ...

    async def memory(self, mount: MemoryMount) -> None:
        """Mount; the target exists and is no symbolic link. Raises HostFailure."""
        ...

    async def unmount_memory(self, target: Path) -> None:
        """Unmount what ``memory`` has mounted; what others have mounted there stays. Raises HostFailure."""
        ...

    async def grow(self, target: Path) -> None:
        """Update the size of the loop device of a mounted image file that has grown. Raises HostFailure."""
        ...

    async def overlay(self, mount: OverlayMount) -> None:
        """Mount on an existing directory; no effect if it is a mount point. Nothing stays mounted after a failure.

        Raises NotFound if ``upper`` does not exist, HostFailure.
        """
        ...

    async def unmount(self, target: Path) -> None:
        """Unmount (lazily, so that it cannot fail as busy); no effect if nothing is mounted there."""
        ...

    async def share(self, process: ProcessRef) -> None:
        """Make all mounts in the mount namespace of a process shared.

        Raises WrongState when the process has ended, HostFailure.
        """
        ...

    async def make_root_read_only(self, process: ProcessRef, but: Sequence[str] = ()) -> None:
        """Make the root of the mount namespace of a process read-only, not what is mounted below it.

        ``but``: paths that stay writable; those that do not exist are left out.

        Raises WrongState when the process has ended, HostFailure.
        """
        ...

    async def responds(self, target: Path, seconds: float = 1.0) -> bool:
        """Whether a file system is mounted there and responds in time: a FUSE server may have ended or hang.

        While a check hangs, no second one is started. A response is valid for 0.2 s.
        """
        ...

    async def mounted(self, target: Path) -> bool:
        """Whether ``target`` is a mount point."""
        ...

    async def below(self, directory: Path) -> tuple[Path, ...]:
        """All mount points at or below a directory, deepest first."""
        ...


class LinuxMounts:
    """By mount system calls. Id-mapped mounts of layers are temporary: an overlay keeps private clones of them."""

    def __init__(self) -> None:
        self._checks: dict[Path, tuple[asyncio.Future[bool], float]] = {}
        """The last check of each file system: its result, and the time it was started."""

    async def overlay(self, mount: OverlayMount) -> None:
        await in_thread(_overlay, mount)

    async def bind(self, mount: BindMount) -> None:
        """By a detached clone of the mount, whose attributes are set before it is attached."""
        await in_thread(_bind, mount)

    async def disk(self, mount: DiskMount) -> None:
        """An image file gets a loop device with ``autoclear``, which the kernel releases at the unmount."""
        await in_thread(_disk, mount)

    async def memory(self, mount: MemoryMount) -> None:
        await in_thread(_memory, mount)

    async def unmount_memory(self, target: Path) -> None:
        """By the source in the mount table."""
        await in_thread(_unmount_memory, target)

    async def grow(self, target: Path) -> None:
        """The loop device is found in the mount table."""
        await in_thread(_grow, target)

    async def unmount(self, target: Path) -> None:
        """Unmount all mounts stacked on ``target``."""
        await in_thread(_unmount, target)

    async def share(self, process: ProcessRef) -> None:
        """In a thread that enters the mount namespace, and then ends."""
        await in_thread(_in_mounts_of, process, _share_all, "share the mounts")

    async def make_root_read_only(self, process: ProcessRef, but: Sequence[str] = ()) -> None:
        """In such a thread, too."""
        await in_thread(_make_root_read_only, process, but)

    async def responds(self, target: Path, seconds: float = 1.0) -> bool:
        """In a thread of its own: one that hangs continues only when the file system responds or is aborted."""
        loop = asyncio.get_running_loop()
        answer, started_at = self._checks.get(target) or (None, 0.0)
        if answer is not None and answer.done() and answer.result() and loop.time() < started_at + _TRUSTED_FOR:
            return True
        if answer is None or answer.done():
            answer, started_at = self._checks[target] = loop.create_future(), loop.time()
            threading.Thread(target=_check, args=(target, loop, answer), name="isola-responds", daemon=True).start()
        done, _ = await asyncio.wait({answer}, timeout=max(0.0, started_at + seconds - loop.time()))
        return bool(done) and answer.result()

    async def mounted(self, target: Path) -> bool:
        return await in_thread(_mounted, target)

    async def below(self, directory: Path) -> tuple[Path, ...]:
        return await in_thread(_below, directory)


def _overlay(mount: OverlayMount) -> None:
    if _mounted(mount.target):
        return
    try:
        with contextlib.ExitStack() as stack:
            options = ""
            if mount.upper is not None and mount.work is not None:
                # Opened before layers are mounted on the work directory.
                options = f",upperdir={_by_descriptor(_upper(stack, mount.upper))}"
                options += f",workdir={_by_descriptor(_opened(stack, mount.work))}"
            if mount.idmap is None:
                lower = [_opened(stack, path) for path in mount.lower]
            else:
                lower = _shifted(stack, mount, mount.idmap)
            options = f"lowerdir={':'.join(map(_by_descriptor, reversed(lower)))},{_OPTIONS}{options}"
            if len(options) > _OPTIONS_SIZE:
                raise OSError(errno.E2BIG, f"{len(lower)} layers are more than one overlay can have")
            kernel.mount("overlay", mount.target, "overlay", options, kernel.MS_NODEV)
    except OSError as error:
        raise HostFailure(
            f"Cannot mount an {mount.describe()}", evidence=str(error), remedy=_REASONS.get(error.errno or 0, "")
        ) from error


def _bind(mount: BindMount) -> None:
    attributes = kernel.MOUNT_ATTR_NODEV | (kernel.MOUNT_ATTR_RDONLY if mount.read_only else 0)
    try:
        with contextlib.ExitStack() as stack:
            tree = kernel.clone_tree(mount.source)
            stack.callback(os.close, tree)
            namespace = None
            if mount.idmap is not None:
                namespace = kernel.user_namespace(mount.idmap.base, mount.idmap.size, mount.inner)
                stack.callback(os.close, namespace)
            kernel.set_attributes(tree, attributes, namespace)
            kernel.attach_tree(tree, mount.target)
    except OSError as error:
        raise HostFailure(
            f"Cannot bind-mount {mount.source} on {mount.target}",
            evidence=str(error),
            remedy=_REASONS.get(error.errno or 0, "") if mount.idmap is not None else "",
        ) from error


def _disk(mount: DiskMount) -> None:
    try:
        with loops.attached(mount.source) as device:
            kernel.mount(str(device), mount.target, mount.kind, mount.options, kernel.MS_NODEV)
    except OSError as error:
        raise HostFailure(
            f"Cannot mount the {mount.kind} file system of {mount.source}",
            evidence=str(error),
            remedy=_DISK_REASONS.get(error.errno or 0, ""),
        ) from error


def _memory(mount: MemoryMount) -> None:
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    if mount.target.is_symlink():  # it would be mounted elsewhere, and not be found again
        raise HostFailure(f"Cannot mount a tmpfs on {mount.target}", evidence="it is a symbolic link")
    try:
        kernel.mount(_MEMORY_SOURCE, mount.target, "tmpfs", f"mode={mount.mode:o},size={_MEMORY_SIZE}", flags)
    except OSError as error:
        raise HostFailure(f"Cannot mount a tmpfs on {mount.target}", evidence=str(error)) from error


def _unmount_memory(target: Path) -> None:
    try:
        while _mounted(target) and _on_top(target.resolve()) == (b"tmpfs", _MEMORY_SOURCE.encode()):
            _unmount_once(target)
    except FileNotFoundError:
        return  # unmounted by another program meanwhile
    except OSError as error:
        raise HostFailure(f"Cannot unmount {target}", evidence=str(error)) from error


def _grow(target: Path) -> None:
    try:
        loops.grow(device_of(target))
    except OSError as error:
        raise HostFailure(f"Cannot grow the disk below {target}", evidence=str(error)) from error


def device_of(target: Path) -> Path:
    """The device of the file system mounted at ``target``, from the mount table. Raises FileNotFoundError."""
    return Path(os.fsdecode(_on_top(target)[1]))


def _on_top(target: Path) -> tuple[bytes, bytes]:
    """Kind and source of the file system that is mounted last at ``target``. Raises FileNotFoundError."""
    with open("/proc/self/mountinfo", "rb") as table:
        for line in reversed(table.read().splitlines()):
            fields, _, rest = line.partition(b" - ")
            if Path(os.fsdecode(_unescape(fields.split(b" ", 5)[4]))) == target:
                kind, source = rest.split(b" ")[:2]
                return kind, _unescape(source)
    raise FileNotFoundError(errno.ENOENT, "nothing is mounted there", str(target))


def _shifted(stack: contextlib.ExitStack, mount: OverlayMount, ids: IdRange) -> list[int]:
    """Id-mapped mounts of the layers, until the end of ``stack``: the overlay has private clones of them.

    They are stacked on the work directory, which needs no other directories. Kernels before 6.15 refuse detached mounts
    as layers.
    """
    assert mount.work is not None
    namespace = kernel.user_namespace(ids.base, ids.size)
    stack.callback(os.close, namespace)
    stack.callback(_unmount, mount.work)
    shown: list[int] = []
    for layer in mount.lower:
        tree = kernel.clone_tree(layer)
        stack.callback(os.close, tree)
        kernel.set_idmap(tree, namespace)
        kernel.attach_tree(tree, mount.work)
        shown.append(tree)
    return shown


def _upper(stack: contextlib.ExitStack, path: Path) -> int:
    try:
        return _opened(stack, path)
    except FileNotFoundError as error:
        raise NotFound(f"{path} does not exist", evidence=str(error)) from error


def _opened(stack: contextlib.ExitStack, path: Path) -> int:
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor


def _by_descriptor(descriptor: int) -> str:
    """Such paths keep the options short and free of characters that overlay would interpret."""
    return f"/proc/self/fd/{descriptor}"


def _check(target: Path, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[bool]) -> None:
    try:
        os.statvfs(target)
        found = kernel.is_mount_point(target)
    except OSError:
        found = False

    def finish() -> None:
        if not answer.done():
            answer.set_result(found)

    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(finish)


def _share_all() -> None:
    kernel.mount("none", Path("/"), "", "", kernel.MS_REC | kernel.MS_SHARED)


def _make_root_read_only(process: ProcessRef, but: Sequence[str]) -> None:
    """Its own root, which need not be that of its mount namespace."""
    root = open_of(process, "root", os.O_PATH | os.O_DIRECTORY)

    def change() -> None:
        for path in but:
            _mount_on_itself(root, path)
        kernel.set_attributes(root, kernel.MOUNT_ATTR_RDONLY)

    try:
        _in_mounts_of(process, change, "make the root read-only")
    finally:
        os.close(root)


def _mount_on_itself(root: int, path: str) -> None:
    """Symbolic links are resolved by the kernel below the root: they are the instance's own."""
    try:
        resolve = kernel.RESOLVE_IN_ROOT | kernel.RESOLVE_NO_MAGICLINKS
        found = kernel.open_beneath(root, os.fsencode(path.lstrip("/") or "."), os.O_PATH, resolve)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        tree = kernel.clone_tree_of(found, recursive=True)
        try:
            kernel.attach_tree_to(tree, found)
        finally:
            os.close(tree)
    finally:
        os.close(found)


def _in_mounts_of(process: ProcessRef, work: Callable[[], None], what: str) -> None:
    """In a thread that enters the mount namespace and the root of the process, and then ends."""
    namespace = open_of(process, "ns/mnt")
    root = open_of(process, "root", os.O_PATH | os.O_DIRECTORY)
    failed: list[OSError] = []

    def inside() -> None:
        try:
            kernel.enter_mounts(namespace)
            os.fchdir(root)
            os.chroot(".")
            work()
        except OSError as error:
            failed.append(error)

    try:
        thread = threading.Thread(target=inside, name="isola-mounts")
        thread.start()
        thread.join()
    finally:
        os.close(namespace)
        os.close(root)
    if failed:
        raise HostFailure(f"Cannot {what} of process {process.pid}", evidence=str(failed[0])) from failed[0]


def _unmount(target: Path) -> None:
    while _unmount_once(target):
        pass


def _unmount_once(target: Path) -> bool:
    """False if nothing is mounted there."""
    try:
        kernel.unmount(target)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
            return False
        raise HostFailure(f"Cannot unmount {target}", evidence=str(error)) from error
    return True


def _mounted(target: Path) -> bool:
    try:
        return kernel.is_mount_point(target)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise HostFailure(f"Cannot examine {target}", evidence=str(error)) from error


def _below(directory: Path) -> tuple[Path, ...]:
    try:
        with open("/proc/self/mountinfo", "rb") as table:
            lines = table.read().split(b"\n")[:-1]
    except OSError as error:
        raise HostFailure("Cannot read the mount table", evidence=str(error)) from error
    points = (Path(os.fsdecode(_unescape(line.split(b" ", 5)[4]))) for line in lines)
    found = [point for point in points if point.is_relative_to(directory)]
    # Of several mounts on one path the last is on top, and comes first here: the sort is stable.
    return tuple(reversed(sorted(found, key=lambda point: len(point.parts))))


def _unescape(field: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)
