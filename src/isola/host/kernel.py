"""System calls that Python does not wrap: the new mount calls, ``openat2``, ``syncfs`` and their kin.

Every call releases the interpreter lock and raises OSError. Numbers from 424 on are the same on every architecture.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.clone.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]

OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _OPENAT2, _MOUNT_SETATTR = 428, 429, 430, 431, 432, 437, 442
_QUOTACTL_FD = 443
AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_SYMLINK_NOFOLLOW = 0x100
AT_RECURSIVE = 0x8000
_AT_STATX_DONT_SYNC = 0x4000
_STATX_ATTR_MOUNT_ROOT = 0x2000
_STATX_MNT_ID = 0x1000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 8, 32, 1 << 12, 1 << 14
MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 17, 1 << 18, 1 << 19, 1 << 20
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, _MOUNT_ATTR_IDMAP = 1, 2, 4, 8, 1 << 20
MOUNT_ATTR_NOSYMFOLLOW = 1 << 21
_MOUNT_ATTR_NOATIME, _MOUNT_ATTR_STRICTATIME, _MOUNT_ATTR_ATIME = 0x10, 0x20, 0x70
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_PROPAGATION = {"": 0, "private": MS_PRIVATE, "shared": MS_SHARED, "slave": MS_SLAVE, "unbindable": MS_UNBINDABLE}
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "i686": 217, "armv7l": 218, "ppc64le": 203, "s390x": 217}
_RENAME_NOREPLACE = 1
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = 1, 2, 4, 8, 16
CLONE_FS, _CLONE_NEWNS = 0x200, 0x20000
_CLONE_VM, _CLONE_VFORK, _CLONE_NEWUSER = 0x100, 0x4000, 0x10000000
_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4
_WALL = 0x40000000


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def _syscall(number: int, what: str, *arguments: object) -> int:
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments), what)


def give_back_memory() -> None:
    """Return memory that the allocator of the C library has freed, but keeps for later, to the system."""
    if hasattr(_libc, "malloc_trim"):  # glibc has it, musl does not
        _libc.malloc_trim(ctypes.c_size_t(0))


def clone_tree(path: Path, *, recursive: bool = False) -> int:
    """A detached copy of the mount of ``path``, with ``path`` as its root; returns a descriptor.

    With ``recursive`` the mounts below are copied too.
    """
    flags = 1 | os.O_CLOEXEC | (AT_RECURSIVE if recursive else 0)  # OPEN_TREE_CLONE
    return _syscall(OPEN_TREE, str(path), AT_FDCWD, os.fsencode(path), ctypes.c_uint(flags))


def clone_tree_of(found: int, *, recursive: bool = False) -> int:
    """The same for a descriptor opened with ``O_PATH``."""
    flags = 1 | os.O_CLOEXEC | _AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    return _syscall(OPEN_TREE, "open_tree", found, b"", ctypes.c_uint(flags))


def set_idmap(tree: int, user_namespace: int, *, read_only: bool = True) -> None:
    """Show the files of a detached mount with the ids that a user namespace maps them to."""
    attributes = 0x00100000 | (1 if read_only else 0)  # MOUNT_ATTR_IDMAP, MOUNT_ATTR_RDONLY
    packed = struct.pack("=QQQQ", attributes, 0, 0, user_namespace)
    _syscall(
        _MOUNT_SETATTR, "mount_setattr", tree, b"", ctypes.c_uint(_AT_EMPTY_PATH), packed, ctypes.c_size_t(len(packed))
    )


def set_attributes(
    tree: int, attributes: int, user_namespace: int | None = None, *, propagation: str = "", recursive: bool = False
) -> None:
    """Give a detached mount attributes, the ids of a user namespace, and a type of propagation."""
    attributes |= 0 if user_namespace is None else _MOUNT_ATTR_IDMAP
    packed = struct.pack("=QQQQ", attributes, 0, _PROPAGATION[propagation], user_namespace or 0)
    flags = _AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _syscall(_MOUNT_SETATTR, "mount_setattr", tree, b"", ctypes.c_uint(flags), packed, ctypes.c_size_t(len(packed)))


def make_private(path: Path) -> None:
    """Make the propagation of mounts at and below ``path`` private."""
    packed = struct.pack("=QQQQ", 0, 0, MS_PRIVATE, 0)
    flags = ctypes.c_uint(AT_RECURSIVE)
    _syscall(_MOUNT_SETATTR, str(path), AT_FDCWD, os.fsencode(path), flags, packed, ctypes.c_size_t(len(packed)))


def is_locked(tree: int) -> bool:
    """Whether attributes of a detached mount are locked, for root as well.

    Its handling of access times is locked with the others, and differs from one of the two that are tried.
    """
    for attribute in (_MOUNT_ATTR_NOATIME, _MOUNT_ATTR_STRICTATIME):
        packed = struct.pack("=QQQQ", attribute, _MOUNT_ATTR_ATIME, 0, 0)
        size = ctypes.c_size_t(len(packed))
        try:
            _syscall(_MOUNT_SETATTR, "mount_setattr", tree, b"", ctypes.c_uint(_AT_EMPTY_PATH), packed, size)
        except PermissionError:
            return True
    return False


def new_file_system(kind: str, options: Mapping[str, str], *, read_only: bool = False) -> int:
    """A detached mount of a file system: a new ``tmpfs``, or that of a device; returns a descriptor."""
    context = _syscall(_FSOPEN, "fsopen", kind.encode(), ctypes.c_uint(1))
    try:
        for key, value in options.items():
            _syscall(_FSCONFIG, f"fsconfig {key}", context, _FSCONFIG_SET_STRING, key.encode(), value.encode(), 0)
        if read_only:
            _syscall(_FSCONFIG, "fsconfig ro", context, _FSCONFIG_SET_FLAG, b"ro", None, 0)
        _syscall(_FSCONFIG, "fsconfig", context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return _syscall(_FSMOUNT, "fsmount", context, ctypes.c_uint(1), ctypes.c_uint(0))
    finally:
        os.close(context)


def attach_tree_to(tree: int, place: int) -> None:
    """Attach a detached mount to an open file or directory of the caller's mount namespace."""
    both_empty = 0x4 | 0x40  # MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH
    _syscall(_MOVE_MOUNT, "move_mount", tree, b"", place, b"", ctypes.c_uint(both_empty))


def attach_tree(tree: int, target: Path) -> None:
    """Attach a detached mount to a directory."""
    from_empty_path = 4
    _syscall(_MOVE_MOUNT, str(target), tree, b"", AT_FDCWD, os.fsencode(target), ctypes.c_uint(from_empty_path))


def mount(source: str, target: Path, kind: str, options: str, flags: int = 0) -> None:
    """Classic ``mount(2)``."""
    result = _libc.mount(
        os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), os.fsencode(options)
    )
    _checked(result, str(target))


def enter_mounts(namespace: int) -> None:
    """Enter a mount namespace. It cannot be left, so call it in a thread that ends afterwards."""
    _checked(_libc.unshare(CLONE_FS), "unshare")  # otherwise all threads share root and working directory
    _checked(_libc.setns(namespace, _CLONE_NEWNS), "setns")


def unmount(target: Path) -> None:
    """Detach the mount on top of ``target``, busy or not."""
    _checked(_libc.umount2(os.fsencode(target), MNT_DETACH | UMOUNT_NOFOLLOW), str(target))


def unmount_in(directory: int, name: bytes) -> None:
    """Detach what is mounted on top of a name in an open directory.

    For a thread that has a working directory of its own: ``umount2`` takes no descriptors.
    """
    os.fchdir(directory)
    _checked(_libc.umount2(name, ctypes.c_int(MNT_DETACH | UMOUNT_NOFOLLOW)), os.fsdecode(name))


def unescaped(field: bytes) -> bytes:
    """A path as the mount table escapes it."""
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)


def unshare(flags: int) -> None:
    """Enter new namespaces; a new PID namespace applies to processes forked from now on."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def join(namespace: int, kind: int) -> None:
    """Enter a namespace by its descriptor."""
    _checked(_libc.setns(namespace, ctypes.c_int(kind)), "setns")


def pivot_root(new: bytes, old: bytes) -> None:
    """Make a mount the root of this mount namespace and put the old one at ``old``."""
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, f"the number of pivot_root on {os.uname().machine} is not known")
    _syscall(number, "pivot_root", new, old)


def is_mount_point(path: Path) -> bool:
    """Whether this path is a mount point; the cost does not depend on the number of mounts."""
    buffer = ctypes.create_string_buffer(256)
    _checked(_libc.statx(AT_FDCWD, os.fsencode(path), _AT_SYMLINK_NOFOLLOW, 0, buffer), str(path))
    return bool(int.from_bytes(buffer.raw[8:16], "little") & _STATX_ATTR_MOUNT_ROOT)


def is_mount_root(descriptor: int) -> bool:
    """Whether an open file is the root of its mount. Does not access the file system."""
    buffer = ctypes.create_string_buffer(256)
    flags = _AT_EMPTY_PATH | _AT_STATX_DONT_SYNC
    _checked(_libc.statx(descriptor, b"", flags, 0, buffer), "statx")
    return bool(int.from_bytes(buffer.raw[8:16], "little") & _STATX_ATTR_MOUNT_ROOT)


def mount_of(descriptor: int) -> int:
    """The id of the mount of an open file. Does not access the file system, which may hang."""
    buffer = ctypes.create_string_buffer(256)
    flags = _AT_EMPTY_PATH | _AT_STATX_DONT_SYNC
    _checked(_libc.statx(descriptor, b"", flags, _STATX_MNT_ID, buffer), "statx")
    return int.from_bytes(buffer.raw[144:152], "little")


def open_beneath(root: int, path: bytes, flags: int, resolve: int, mode: int = 0) -> int:
    """``openat2``; repeated while concurrent renames make it fail with EAGAIN."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    for attempt in range(64):
        try:
            return _syscall(_OPENAT2, os.fsdecode(path), root, path, how, ctypes.c_size_t(len(how)))
        except BlockingIOError:
            if attempt == 63:
                raise
    raise AssertionError


def rename_new(old_directory: int, old: bytes, new_directory: int, new: bytes) -> None:
    """``renameat2`` with ``RENAME_NOREPLACE``."""
    _checked(
        _libc.renameat2(old_directory, old, new_directory, new, ctypes.c_uint(_RENAME_NOREPLACE)), os.fsdecode(new)
    )


def file_system_type(descriptor: int) -> int:
    """The magic number of the file system of an open file."""
    buffer = ctypes.create_string_buffer(512)
    _checked(_libc.fstatfs(descriptor, buffer), "fstatfs")
    return ctypes.c_long.from_buffer(buffer).value


def sync_file_system(descriptor: int) -> None:
    """Sync the file system of an open file."""
    _checked(_libc.syncfs(descriptor), "syncfs")


def exchange(one: Path, other: Path) -> None:
    """Exchange two names on one file system atomically: ``renameat2`` with ``RENAME_EXCHANGE``."""
    exchanged = ctypes.c_uint(2)
    _checked(_libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), exchanged), str(one))


def quota_control(descriptor: int, command: int, kind: int, id: int, data: bytearray) -> None:
    """``quotactl_fd`` on the file system of a descriptor; reads or fills ``data``."""
    buffer = (ctypes.c_char * len(data)).from_buffer(data)
    number = ctypes.c_uint(command << 8 | kind)
    _syscall(_QUOTACTL_FD, "quotactl_fd", ctypes.c_uint(descriptor), number, ctypes.c_uint(id), buffer)


def user_namespace(base: int, size: int, inner: int = 0) -> int:
    """A descriptor of a new user namespace; ids from ``inner`` in it stand for ``base .. base+size-1`` outside.

    The namespace is created with a child that shares the daemon's memory, calls only ``_exit`` while this thread waits
    (vfork), and is a zombie when the maps are written: nothing can be left behind, no memory is copied, no program is
    started. It has no exit signal, so that no ``waitpid(-1)`` and no SIGCHLD handler of the process sees it.
    """
    # A change of the effective user has forbidden dumps. The namespace of a zombie that forbids them is shown by recent
    # kernels to the host's root alone, not to a daemon that is itself in a user namespace.
    before = _libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)
    _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    try:
        return _user_namespace(base, size, inner)
    finally:
        _libc.prctl(_PR_SET_DUMPABLE, before, 0, 0, 0)


def _user_namespace(base: int, size: int, inner: int) -> int:
    with mmap.mmap(-1, 65536) as stack:
        room = ctypes.c_char.from_buffer(stack)
        top = ctypes.addressof(room) + len(stack)
        entry = ctypes.cast(_libc._exit, ctypes.c_void_p)
        try:
            pid = _checked(_libc.clone(entry, top, _CLONE_VM | _CLONE_VFORK | _CLONE_NEWUSER, None), "user namespace")
        finally:
            del room  # otherwise the memory could not be freed
    try:
        for name in ("uid_map", "gid_map"):
            _write(f"/proc/{pid}/{name}", f"{inner} {base} {size}".encode())
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.waitpid(pid, _WALL)


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
