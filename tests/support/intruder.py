"""An attacker in control of the process that reads archives: tries all known escapes.

Run as a program: it is confined like the unpacker, tries everything, and prints the results.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from isola.host import cell
from isola.host.archive import archiver
from isola.host.cell import Inside

_libc = ctypes.CDLL(None, use_errno=True)
_PTRACE_ATTACH = 16


def _call(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _root() -> int:
    return os.open("/", os.O_RDONLY)


def _directory(name: str) -> None:
    """By a call that unpacking needs, too."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=_root())


def mount_proc(facts: Mapping[str, int]) -> None:
    _directory("proc")
    _call(_libc.mount(b"proc", b"/proc", b"proc", 0, None))


def open_core_pattern(facts: Mapping[str, int]) -> None:
    os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))


def make_the_node_of_the_disk(facts: Mapping[str, int]) -> None:
    os.mknod("disk", stat.S_IFBLK | 0o600, facts["device"], dir_fd=_root())
    os.close(os.open("/disk", os.O_RDONLY))


def make_a_harmless_node(facts: Mapping[str, int]) -> None:
    os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3), dir_fd=_root())


def mount_a_control_group(facts: Mapping[str, int]) -> None:
    _directory("group")
    _call(_libc.mount(b"cgroup", b"/group", b"cgroup", 0, b"memory"))
    os.close(os.open("/group/release_agent", os.O_WRONLY))


def open_a_release_agent(facts: Mapping[str, int]) -> None:
    os.close(os.open("/sys/fs/cgroup/memory/release_agent", os.O_WRONLY))


def read_shadow(facts: Mapping[str, int]) -> None:
    for way in ("/etc/shadow", "/../../../../../../../../etc/shadow", "/proc/1/root/etc/shadow"):
        with contextlib.suppress(OSError):
            os.close(os.open(way, os.O_RDONLY))
            return
    raise FileNotFoundError(errno.ENOENT, "shadow")


def break_out_of_the_root(facts: Mapping[str, int]) -> None:
    outer = os.open("/", os.O_RDONLY)
    _directory("inner")
    os.chroot("/inner")
    os.fchdir(outer)
    os.close(os.open("../../../../../../../../etc/shadow", os.O_RDONLY))


def connect_to_an_abstract_socket(facts: Mapping[str, int]) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(f"\0isola-intruder-{facts['host']}")


def connect_to_the_network(facts: Mapping[str, int]) -> None:
    with socket.socket(socket.AF_INET) as end:
        end.connect(("127.0.0.1", facts["port"]))


def signal_a_process(facts: Mapping[str, int]) -> None:
    os.kill(facts["host"], signal.SIGWINCH)


def signal_a_thread(facts: Mapping[str, int]) -> None:
    _call(_libc.syscall(234 if os.uname().machine == "x86_64" else 131, facts["host"], facts["host"], signal.SIGWINCH))


def have_a_process_signalled(facts: Mapping[str, int]) -> None:
    """By the next event of an open file."""
    fcntl.fcntl(os.open("/", os.O_RDONLY), fcntl.F_SETOWN, facts["host"])


def see_limits_of_a_process(facts: Mapping[str, int]) -> None:
    resource.prlimit(facts["host"], resource.RLIMIT_CORE)


def change_a_device_of_the_host(facts: Mapping[str, int]) -> None:
    """Its standard streams were opened outside: through them the mode of ``/dev/null`` could be changed."""
    for number in (0, 1):
        if not stat.S_ISCHR(os.fstat(number).st_mode):
            raise PermissionError(errno.EPERM, "not a device")
        os.fchmod(number, stat.S_IMODE(os.fstat(number).st_mode))


def trace_a_process(facts: Mapping[str, int]) -> None:
    _call(_libc.ptrace(_PTRACE_ATTACH, facts["host"], 0, 0))


def mark_for_overlay(facts: Mapping[str, int]) -> None:
    os.setxattr("/", "trusted.overlay.redirect", b"/etc")


def become_root_again(facts: Mapping[str, int]) -> None:
    os.setresuid(1, 1, 1)


CONSEQUENTIAL: tuple[Callable[[Mapping[str, int]], None], ...] = (
    mount_proc, open_core_pattern, make_the_node_of_the_disk, make_a_harmless_node, mount_a_control_group,
    open_a_release_agent, read_shadow, break_out_of_the_root, connect_to_an_abstract_socket, connect_to_the_network,
    signal_a_process, signal_a_thread, have_a_process_signalled, see_limits_of_a_process, change_a_device_of_the_host,
    trace_a_process, mark_for_overlay, become_root_again,
)  # fmt: skip
"""Attempts that are prevented by more than one mechanism."""


def make_a_user_namespace(facts: Mapping[str, int]) -> None:
    _call(_libc.unshare(0x10000000))


def make_a_socket(facts: Mapping[str, int]) -> None:
    socket.socketpair()[0].close()


def make_a_process(facts: Mapping[str, int]) -> None:
    if os.fork() == 0:
        os._exit(0)


def start_a_program(facts: Mapping[str, int]) -> None:
    os.execv("/no-such-program", ["x"])


def make_a_keyring(facts: Mapping[str, int]) -> None:
    _call(_libc.syscall(250 if os.uname().machine == "x86_64" else 219, 1, 0, 0, 0, 0))


FILTERED = (make_a_user_namespace, make_a_socket, make_a_process, start_a_program, make_a_keyring)
"""Attempts that are prevented by the seccomp filter alone."""


def threads(most: int) -> int:
    """Number of threads that can be started; each uses a PID of the host."""
    done, count = threading.Event(), 0
    threading.stack_size(32768)
    with contextlib.suppress(RuntimeError):
        while count < most:
            threading.Thread(target=done.wait, daemon=True).start()
            count += 1
    done.set()
    return count


def have_a_file_marked(inside: Inside) -> None:
    """The parent sets overlay xattrs on directories only."""
    file = os.open("/file", os.O_CREAT | os.O_RDWR)
    inside.ask("opaque", file)


def _tried(way: Callable[[], object]) -> str:
    try:
        way()
    except OSError as error:
        return os.strerror(error.errno or 0)
    return "done"


def work(inside: Inside, facts: Mapping[str, int]) -> Mapping[str, object]:
    descriptors = [number for number in range(1024) if _tried(lambda number=number: os.fstat(number)) == "done"]  # type: ignore[misc]
    found = {way.__name__: _tried(lambda way=way: way(facts)) for way in (*CONSEQUENTIAL, *FILTERED)}  # type: ignore[misc]
    return {
        "tried": found,
        "marked": _tried(lambda: have_a_file_marked(inside)),
        "asked": _tried(lambda: inside.ask("shutdown", os.open("/", os.O_RDONLY))),
        "descriptors": descriptors,
        "threads": threads(1000),
        "names": os.listdir("/"),
        "lacks": inside.lacks,
    }


def main() -> None:
    target, facts = Path(sys.argv[1]), json.loads(sys.argv[2])
    place = archiver.unpacking(target, 1 << 20, 60)
    sys.stdout.write(cell.run(place, lambda inside: work(inside, facts), archiver.mark).decode())


if __name__ == "__main__":
    main()
