"""Starts a confined hypervisor and its servers; a monitor of OCI containers (conmon) executes it as engine.

All processes are in user, PID, mount, network, IPC, UTS and cgroup namespaces of their own, in a root that contains
only the files they need, and in the control group of the instance. The hypervisor has no capabilities even in its user
namespace, and gets sockets, disks and taps as open descriptors. A server sees one directory as ``/shared``; one of
files keeps capabilities over the ids of the instance.

The job (``hypervisor_job``) is a JSON file in the working directory.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import select
import socket
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from isola.host import confine, kernel
from isola.host.credentials import effective_user
from isola.host.disk_files import open_disk
from isola.host.hypervisor_job import SHARED, Job, Server
from isola.host.taps import open_tap

_ANCHOR = Path("/proc")
"""A directory that every host has; the new root is mounted there briefly, visible to the child only."""
_MESSAGES = "messages"
"""A FIFO that keeps the first 64 KiB of what both processes write to standard error."""
_TIMEOUT = 60.0
"""Seconds that the hypervisor has to answer on its control socket."""
_LONGEST = 1 << 20
_OPEN_FILES = 4096
_SPACES = kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWNET | kernel.CLONE_NEWCGROUP


def main(arguments: Sequence[str]) -> int:
    """``JOB --log FILE ... create --pid-file FILE ...``, as a monitor calls an engine. The log gets errors."""
    job, log = arguments[0], _option(arguments, "--log")
    try:
        os.chdir(Path(job).parent)
        if "--console-socket" in arguments:
            _open_terminal(_option(arguments, "--console-socket"))
        started = _start(Job.decode(Path(job).read_bytes()))
    except (OSError, TypeError, ValueError) as error:
        evidence = _last_output()
        text = f"{error}{': ' if evidence else ''}{evidence}"
        Path(log).write_text(json.dumps({"level": "error", "msg": text}) + "\n")
        return 1
    Path(_option(arguments, "--pid-file")).write_text(str(started))
    return 0


def _option(arguments: Sequence[str], name: str) -> str:
    return arguments[list(arguments).index(name) + 1]


def _open_terminal(path: str) -> None:
    """Become our standard input and output; the master goes to the monitor."""
    ours, theirs = os.openpty()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as monitor:
        monitor.connect(path)
        socket.send_fds(monitor, [b"terminal"], [ours])
    os.close(ours)
    os.dup2(theirs, 0)
    os.dup2(theirs, 1)
    os.close(theirs)


def _start(job: Job) -> int:
    """The PID of the hypervisor, which answers on its control socket. Kills all processes on failure."""
    _enter_groups(job.groups)
    open_ones = _Descriptors()
    space = _user_namespace(job.ids)
    started: list[int] = []
    try:
        open_ones.open_all(job)
        for server in job.servers:
            started.append(_server(job, server, space, open_ones))
        started.append(hypervisor := _first_of_namespace(lambda: _emulate(job, space, open_ones)))
        open_ones.close()
        _wait_until_made(job.listen[0], hypervisor)
    except BaseException:
        for pid in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        raise
    return hypervisor


def _server(job: Job, server: Server, space: int, open_ones: _Descriptors) -> int:
    tree = kernel.clone_tree(Path(server.directory), recursive=True)
    try:
        kernel.set_attributes(tree, 0, propagation="private", recursive=True)
        pid = _first_of_namespace(lambda: _serve(job, server, space, tree, open_ones))
    finally:
        os.close(tree)
    Path(f"{server.name}.pid").write_text(str(pid))
    return pid


def _enter_groups(directories: Sequence[str]) -> None:
    for directory in directories:
        tasks = Path(directory, "tasks")
        (tasks if tasks.exists() else Path(directory, "cgroup.procs")).write_text("0")


def _user_namespace(ids: tuple[int, int]) -> int:
    with effective_user(ids[0]):
        return kernel.user_namespace(*ids)


class _Descriptors:
    """What the hypervisor and its servers get open."""

    def __init__(self) -> None:
        self.named: dict[str, int] = {}
        self.messages = -1

    def open_all(self, job: Job) -> None:
        os.mkfifo(_MESSAGES, 0o600)
        # With both ends open, and without blocking: what does not fit is dropped.
        self.messages = os.open(_MESSAGES, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        for name in job.listen:
            self.named[name] = _listening(name)
        for server in job.servers:
            self.named[server.name] = _listening(server.name)
            self.named[server.wire] = _connected(server.name)
            os.unlink(server.name)
        for name, (path, writable) in job.opened.items():
            self.named[name] = open_disk(path, writable=writable)
        for name, tap in job.taps.items():
            self.named[name] = open_tap(tap)
        self.named["output"], self.named["errors"] = (_above(number) for number in (1, 2))

    def close(self) -> None:
        """All but the messages, which are lost when they are not open anywhere."""
        for descriptor in self.named.values():
            os.close(descriptor)

    def numbered(self, argv: Sequence[str]) -> list[str]:
        """The command line with numbers; its descriptors are inherited, all others are not."""
        text = "\0".join(argv)
        for name, descriptor in self.named.items():
            if f"@{name}@" in text:
                os.set_inheritable(descriptor, True)
                text = text.replace(f"@{name}@", str(descriptor))
        return text.split("\0")


def _above(number: int) -> int:
    """A copy with a number that is not that of a standard stream."""
    copy = os.dup(number)
    if copy < 3:
        raise OSError(errno.EBADF, "a standard stream is closed")
    return copy


def _listening(name: str) -> int:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        server.bind(name)
        server.listen(1)
    finally:
        os.umask(before)
    return server.detach()


def _connected(name: str) -> int:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect(name)
    return client.detach()


def _first_of_namespace(work: Callable[[], NoReturn]) -> int:
    """Start a process that is the first of a new PID namespace."""
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        kernel.unshare(kernel.CLONE_NEWPID)
        if (pid := os.fork()) == 0:
            try:
                work()
            except BaseException as error:
                with contextlib.suppress(OSError):
                    os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(125)
        kernel.join(home, kernel.CLONE_NEWPID)
        return pid
    finally:
        os.close(home)


# --- in the children -------------------------------------------------------------------------------------------------


def _serve(job: Job, server: Server, space: int, tree: int, open_ones: _Descriptors) -> NoReturn:
    """Become a server."""
    argv = open_ones.numbered(server.command)
    _prepare(open_ones.messages, to_null=(0, 1))
    with _new_root((*job.shown, *server.shown)):
        Path(SHARED.strip("/")).mkdir()
        kernel.attach_tree(tree, Path(SHARED.strip("/")))
        Path("proc").mkdir()
        kernel.mount("proc", Path("proc"), "proc", "", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    kernel.join(space, kernel.CLONE_NEWUSER)
    if server.powerful:
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        os.umask(0)
    else:
        os.umask(0o077)
        confine.become(job.user, (), with_parent=False)
    os.execve(argv[0], argv, {})


def _emulate(job: Job, space: int, open_ones: _Descriptors) -> NoReturn:
    """Become the hypervisor."""
    argv = open_ones.numbered(job.program)
    _prepare(open_ones.messages, to_null=() if os.isatty(1) else (1,))
    with _new_root(job.shown):
        for device in job.devices:
            _node(Path(device), job.ids[0] + job.user)
    kernel.join(space, kernel.CLONE_NEWUSER)
    os.umask(0o077)
    confine.become(job.user, (), with_parent=False)
    os.execve(argv[0], argv, dict(job.environment))


def _prepare(messages: int, *, to_null: Sequence[int]) -> None:
    nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for target in to_null:
        os.dup2(nothing, target)
    os.dup2(messages, 2)
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = _OPEN_FILES if most == resource.RLIM_INFINITY else min(most, _OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    kernel.unshare(_SPACES)


@contextlib.contextmanager
def _new_root(paths: Sequence[str]) -> Iterator[None]:
    """An empty read-only root with the paths of the host that are shown; the context adds to it by relative paths."""
    kernel.mount("", Path("/"), "", "", kernel.MS_REC | kernel.MS_PRIVATE)
    shown = {path: _shown(Path(path)) for path in paths}
    kernel.mount("isola", _ANCHOR, "tmpfs", "size=256k,nr_inodes=512,mode=755", kernel.MS_NOSUID)
    os.chdir(_ANCHOR)
    for path, tree in shown.items():
        place = Path(path.strip("/"))
        place.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISDIR(os.fstat(tree).st_mode):
            place.mkdir(exist_ok=True)
        else:
            place.touch()
        kernel.attach_tree(tree, place)
        os.close(tree)
    yield
    kernel.pivot_root(b".", b".")
    kernel.unmount(Path("."))
    os.chdir("/")
    kernel.mount("", Path("/"), "", "", kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.MS_NOSUID)


def _shown(path: Path) -> int:
    tree = kernel.clone_tree(path)
    attributes = kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV
    kernel.set_attributes(tree, attributes, propagation="private")
    return tree


def _node(device: Path, owner: int) -> None:
    """A node of its own, because the host's belongs to others."""
    place = Path(str(device).strip("/"))
    place.parent.mkdir(parents=True, exist_ok=True)
    os.mknod(place, stat.S_IFCHR | 0o600, os.stat(device).st_rdev)
    os.chown(place, owner, owner)


# --- its answer -------------------------------------------------------------------------------------------------------


def _wait_until_made(name: str, pid: int) -> None:
    """Raises OSError if it ends before it has made all devices, or does not answer in time."""
    watched = os.pidfd_open(pid)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(name)
            client.sendall(b'{"execute": "qmp_capabilities"}\n')
            answer = b""
            # It greets at once, but answers commands only when its main loop runs.
            while b'"return"' not in answer:
                readable, _, _ = select.select([client.fileno(), watched], [], [], _TIMEOUT)
                block = client.recv(65536) if client.fileno() in readable else b""
                if not block or len(answer) > _LONGEST:
                    raise OSError(errno.EPIPE, "the hypervisor ended" if readable else "the hypervisor does not answer")
                answer += block
    finally:
        os.close(watched)


def _last_output() -> str:
    """What was written to standard error so far."""
    with contextlib.suppress(OSError):
        fifo = os.open(_MESSAGES, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return os.read(fifo, 65536).decode(errors="replace").strip()
        finally:
            os.close(fifo)
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
