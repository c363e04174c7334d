"""A process that is confined before it reads the first byte of untrusted data, and its channel for the result.

``run`` forks. The child has new namespaces (processes, mounts, network, IPC, host name, control groups) and a
root that contains only what it works on. It runs in a user namespace whose ids are mapped to ids of the
host that nothing else uses; if owners of files must be preserved, the root is an id-mapped mount. It keeps the
requested capabilities, which apply in that user namespace only, and has limits and a system call filter. It does not
own the other namespaces, so a vulnerability in the interpreter gives it no privileges in them.

If the host does not support one of these restrictions, the others still apply; ``Inside.lacks`` names the missing ones.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isola.errors import HostFailure, IsolaError, UnsafeArchive
from isola.host import confine, kernel, seccomp

NOBODY = 65534
_NOWHERE = (1 << 31, (1 << 31) - 2)
"""First id and number of the ids of processes in cells on the host: the upper half, which is not assigned to users."""
_EVERYBODY = (0, (1 << 32) - 1)
_REFUSED = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENODEV)
"""Errors that mean that the host does not support something. Any other error fails the cell."""
_SPACES = (
    (kernel.CLONE_NEWNET, "a network namespace"),
    (kernel.CLONE_NEWIPC, "an IPC namespace"),
    (kernel.CLONE_NEWUTS, "a namespace for the host name"),
    (kernel.CLONE_NEWCGROUP, "a cgroup namespace"),
)
_ANCHOR = Path("/proc")
"""A directory that every host has; a new root is mounted there briefly, visible to the child only."""
_REAL_TIME_FACTOR = 5
"""Real time that a process may take, as a multiple of its CPU time."""
_MOST = 16 << 20
_CHUNK = 1 << 15
_ANSWER = b"answer "


@dataclass(frozen=True, slots=True)
class Cell:
    """Limits, root, capabilities and descriptors of the process in the cell."""

    seconds: int
    """Seconds of CPU time."""
    real_seconds: int = 0
    """Seconds of real time: on a busy host little CPU time takes long. 0: a multiple of the CPU time."""
    file_size: int = 0
    """Maximum size of a file that it writes."""
    memory: int = 2 << 30
    root: Path | None = None
    """The directory that is its ``/``; None for an empty one."""
    shown: Mapping[str, Path] = field(default_factory=dict)
    """Read-only content of an empty root, by name: files, and directories as an unprivileged user sees them."""
    changed: Mapping[str, Path] = field(default_factory=dict)
    """Files of the host in an empty root, by name, that it may change."""
    writable: bool = False
    foreign: bool = False
    """The file system of ``root`` cannot be id-mapped: its files keep the ids they have on the host."""
    owner: int = NOBODY
    """User and group id inside."""
    capabilities: Sequence[int] = ()
    keep: Sequence[int] = ()
    """Descriptors that it may use."""
    programs: bool = False
    """Whether it may execute a program."""


class Inside:
    """The child's channel for requests to the parent, and for its result."""

    failed = 1
    """Exit status of a child whose result is that it could not be confined."""

    def __init__(self, end: socket.socket, lacks: Sequence[str]) -> None:
        self.lacks = tuple(lacks)
        """Restrictions that this host does not support."""
        self._end = end

    def ask(self, what: str, descriptor: int) -> None:
        """Have the parent apply ``serve`` to an open file. Raises the parent's OSError."""
        socket.send_fds(self._end, [what.encode()], [descriptor])
        if number := int(self._end.recv(16) or b"5"):
            raise OSError(number, os.strerror(number))

    def answer(self, document: Mapping[str, object]) -> None:
        """Send the result."""
        data = json.dumps(document).encode()
        for start in range(0, len(data), _CHUNK):
            self._end.send(_ANSWER + data[start : start + _CHUNK])


class _Alone(Inside):
    """Of a child that has no requests: its result goes to a descriptor as it is."""

    failed = 0

    def __init__(self, output: int, lacks: Sequence[str]) -> None:
        self.lacks = tuple(lacks)
        self._output = output

    def ask(self, what: str, descriptor: int) -> None:
        """Raises OSError: the parent takes none."""
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    def answer(self, document: Mapping[str, object]) -> None:
        """Write the result."""
        data = memoryview(json.dumps(document).encode())
        while data:
            data = data[os.write(self._output, data) :]


Work = Callable[[Inside], Mapping[str, object]]
Serve = Callable[[str, int], None]


class Running:
    """A running child."""

    def __init__(self, pid: int, end: socket.socket) -> None:
        self._pid = pid
        self._end = end

    def result(self, serve: Serve | None = None) -> bytes:
        """Serve its requests until it ends. Returns its result, unvalidated JSON. Raises UnsafeArchive, HostFailure."""
        parts: list[bytes] = []
        with self._end:
            while message := self._receive(serve):
                parts.append(message)
                if len(parts) * _CHUNK > _MOST:
                    self.kill()
                    raise HostFailure("The result of the process that reads archives is too large")
        status = self.wait()
        if status < 0:
            raise UnsafeArchive("The archive exceeds the limits on time or memory", evidence=f"signal {-status}")
        if not parts:
            raise HostFailure("The process that unpacks and packs archives failed", evidence=f"status {status}")
        return b"".join(parts)

    def kill(self) -> None:
        """Kill it, and everything in its PID namespace."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> int:
        """Exit status, or the negative number of a signal."""
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def ended(self) -> int | None:
        """The same without waiting; None while it runs."""
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def _receive(self, serve: Serve | None) -> bytes:
        """The next piece of the result, empty at the end."""
        while True:
            data, descriptors, _, _ = socket.recv_fds(self._end, len(_ANSWER) + _CHUNK, 1)
            try:
                if data.startswith(_ANSWER) or not data:
                    return data.removeprefix(_ANSWER)
                number = errno.ENOSYS
                with contextlib.suppress(IndexError):
                    if serve is not None:
                        serve(data.decode("ascii", "replace"), descriptors[0])
                        number = 0
            except OSError as error:
                number = error.errno or errno.EIO
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            with contextlib.suppress(BrokenPipeError):
                self._end.send(b"%d" % number)


def run(cell: Cell, work: Work, serve: Serve | None = None) -> bytes:
    """Do the work inside and return its result as JSON; an IsolaError is a result too. Raises HostFailure.

    If the child does not end in time, SIGALRM ends this process, and the child with it.
    """
    signal.alarm(cell.real_seconds or _REAL_TIME_FACTOR * cell.seconds)
    try:
        return start(cell, work).result(serve)
    finally:
        signal.alarm(0)


def start(cell: Cell, work: Work) -> Running:
    """Start the work inside. This process must not have other threads. Raises HostFailure."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with theirs:
            pid = _forked(cell, work, theirs.fileno(), lambda lacks: Inside(theirs, lacks))
    except BaseException:
        ours.close()
        raise
    return Running(pid, ours)


def start_alone(cell: Cell, work: Work, output: int, errors: int) -> int:
    """Start work that has no requests, and return the child's id. Its result is written to ``output``.

    A child that dies may have written none, or a part. ``errors`` becomes its standard error. Raises HostFailure.
    """

    def lacking(lacks: Sequence[str]) -> Inside:
        os.dup2(errors, 2)
        return _Alone(output, lacks)

    return _forked(cell, work, output, lacking)


Channel = Callable[[Sequence[str]], Inside]
"""Called in the child."""


def _forked(cell: Cell, work: Work, end: int, channel: Channel) -> int:
    try:
        with contextlib.ExitStack() as stack:
            plan = _plan(cell, stack)
            with _process_namespace(plan):
                pid = os.fork()
            if pid == 0:
                _child(plan, work, end, channel)
    except OSError as error:
        raise HostFailure("Cannot confine the process that reads archives", evidence=str(error)) from error
    return pid


@dataclass(slots=True)
class _Plan:
    """Descriptors that were prepared for the child."""

    cell: Cell
    lacks: list[str]
    space: int | None = None
    """Its user namespace."""
    mapped: bool = False
    tree: int | None = None
    """Its root."""
    shown: dict[str, tuple[int, bool]] = field(default_factory=dict)
    """Trees in an empty root, and whether each is a directory."""


def _plan(cell: Cell, stack: contextlib.ExitStack) -> _Plan:
    """User namespace and mounts, which need the parent's privileges. What the host does not support is left out."""
    plan = _Plan(cell, [])
    plan.space = _user_namespace(plan, _EVERYBODY if cell.foreign else _NOWHERE, stack)
    plan.mapped = plan.space is not None and not cell.foreign
    try:
        if cell.root is not None:
            plan.tree = _tree(cell.root, plan, stack)
        for name, path in {**cell.shown, **cell.changed}.items():
            plan.shown[name] = (_tree(path, plan, stack, writable=name in cell.changed), path.is_dir())
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        if plan.mapped:
            plan = _plan(_with_host_ids(cell), stack)
            plan.lacks.append("ids of its own (the file system cannot be id-mapped)")
            return plan
        plan.lacks.append("mounts of its own")
    return plan


def _with_host_ids(cell: Cell) -> Cell:
    """Without id-mapped mounts: files keep their ids, and so does root, but without capabilities."""
    extra = (confine.CAP_DAC_READ_SEARCH,) if cell.shown else ()
    return Cell(
        seconds=cell.seconds, file_size=cell.file_size, root=cell.root, shown=cell.shown, changed=cell.changed,
        writable=cell.writable, foreign=True, owner=cell.owner, memory=cell.memory,
        capabilities=(*cell.capabilities, *extra), keep=cell.keep, programs=cell.programs,
    )  # fmt: skip


def _user_namespace(plan: _Plan, ids: tuple[int, int], stack: contextlib.ExitStack) -> int | None:
    try:
        space = kernel.user_namespace(*ids)
    except OSError as error:
        # ENOSPC means both that none are allowed and that all are in use.
        if error.errno not in _REFUSED and Path("/proc/sys/user/max_user_namespaces").read_text().strip() != "0":
            raise
        plan.lacks.append("a user namespace")
        return None
    stack.callback(os.close, space)
    return space


def _tree(path: Path, plan: _Plan, stack: contextlib.ExitStack, *, writable: bool = False) -> int:
    """A copy of the mount at ``path``, for the child only. Directories of the host are read-only."""
    tree = kernel.clone_tree(path)
    stack.callback(os.close, tree)
    attributes = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV
    if not plan.cell.programs:
        attributes |= kernel.MOUNT_ATTR_NOEXEC
    if not (writable or plan.cell.writable):
        attributes |= kernel.MOUNT_ATTR_RDONLY
    own = plan.mapped and (path == plan.cell.root or not path.is_dir())
    # Under systemd all mounts are shared, and so is a copy of one; a shared mount cannot become a root.
    kernel.set_attributes(tree, attributes, plan.space if own else None, propagation="private")
    return tree


@contextlib.contextmanager
def _process_namespace(plan: _Plan) -> Iterator[None]:
    """A process forked within is the first one of a new PID namespace."""
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            kernel.unshare(kernel.CLONE_NEWPID)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            plan.lacks.append("a process namespace")
            yield
            return
        parent = os.getpid()
        try:
            yield
        finally:
            if os.getpid() == parent:
                kernel.join(home, kernel.CLONE_NEWPID)
    finally:
        os.close(home)


# --- in the child --------------------------------------------------------------------------------------------------


def _child(plan: _Plan, work: Work, end: int, channel: Channel) -> None:
    """Confine this process, do the work, send the result, exit. Never returns."""
    status = 1
    try:
        inside = channel(())
        try:
            _shut_in(plan, end)
            inside.lacks = tuple(plan.lacks)
            answer = _answer(work, inside)
        except BaseException as error:
            inside.answer(_failure("The process that reads archives failed", error))
            status = inside.failed
        else:
            inside.answer(answer)
            status = 0
    finally:
        os._exit(status)  # do not wait for the thread that decompresses, and do not flush the parent's buffers


def _answer(work: Work, inside: Inside) -> Mapping[str, object]:
    try:
        return work(inside)
    except IsolaError as error:
        return {"error": error.code, "message": error.message, "evidence": error.evidence, "remedy": error.remedy}
    except MemoryError:
        return {"error": UnsafeArchive.code, "message": "The archive exceeds the limit on memory"}


def _failure(message: str, error: BaseException) -> Mapping[str, object]:
    return {"error": HostFailure.code, "message": message, "evidence": f"{type(error).__name__}: {error}"}


def _shut_in(plan: _Plan, end: int) -> None:
    cell = plan.cell
    confine.die_with_parent()
    nothing = _nothing()
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    for flag, name in _SPACES:
        _if_offered(plan, lambda flag=flag: kernel.unshare(flag), name)  # type: ignore[misc]
    at_home = _if_offered(plan, lambda: _move_in(plan), "mounts of its own")
    if not at_home and cell.root is not None:
        confine.enter(cell.root)
    if plan.space is not None and (at_home or not plan.mapped):
        kernel.join(plan.space, kernel.CLONE_NEWUSER)
    _close_all_but({0, 1, 2, end, *cell.keep})
    os.umask(0)
    confine.limit(file_size=cell.file_size, seconds=cell.seconds, memory=cell.memory)
    confine.become(cell.owner, cell.capabilities)
    _if_offered(plan, lambda: seccomp.install(programs=cell.programs), "a filter of system calls")


def _if_offered(plan: _Plan, wall: Callable[[], None], name: str) -> bool:
    try:
        wall()
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        if name not in plan.lacks:
            plan.lacks.append(name)
        return False
    return True


def _move_in(plan: _Plan) -> None:
    """A mount namespace that contains the new root only."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("", Path("/"), "", "", kernel.MS_REC | kernel.MS_PRIVATE)
    anchor = (plan.cell.root or _ANCHOR).resolve()  # nothing can be mounted on a symbolic link
    if plan.cell.root is None:
        kernel.mount("cell", anchor, "tmpfs", "size=64k,nr_inodes=64,mode=755", kernel.MS_NOSUID | kernel.MS_NODEV)
    elif plan.tree is None:
        raise OSError(errno.ENOSYS, "no copies of mounts")
    else:
        kernel.attach_tree(plan.tree, anchor)
    os.chdir(anchor)
    for name, (tree, directory) in plan.shown.items():
        _make_place(Path(name), directory=directory)
        kernel.attach_tree(tree, Path(name))
    try:
        kernel.pivot_root(b".", b".")
    except OSError:  # the host itself runs in its first file system
        if plan.cell.root is not None:
            os.chdir("/")
            kernel.unmount(anchor)  # with ids that this process does not get now
        raise
    kernel.unmount(Path("."))
    os.chdir("/")
    if plan.cell.root is None:
        flags = kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
        kernel.mount("", Path("/"), "", "", flags)


def _make_place(path: Path, *, directory: bool) -> None:
    if directory:
        path.mkdir(parents=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _nothing() -> int:
    """An empty sealed file, because a process that has the host's ``/dev/null`` open can change its mode."""
    descriptor = os.memfd_create("nothing", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL)
    return descriptor


def _close_all_but(kept: set[int]) -> None:
    first = 0
    for descriptor in sorted(kept):
        if descriptor > first:  # otherwise Python closes all descriptors
            os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, 1 << 20)
