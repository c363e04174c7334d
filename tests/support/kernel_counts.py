"""Uses up what the kernel counts per user, inside the user namespace of an instance, then as the root beside it.

Run as root: it is root of a user namespace with all ids, where limits can be lowered without touching those of the
host, and prints how many of each kind could be had inside and then outside.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from isola.host.namespaces import LinuxNamespaces
from isola.model.identity import IdRange

MOST = 3
IDS = IdRange(1_500_000)
_libc = ctypes.CDLL(None, use_errno=True)
_NEW_USER = 0x10000000
_REPORT_FILES, _MARK_ADD, _MODIFY, _HERE = 0x200, 1, 2, -100


def _called(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _watch() -> None:
    _called(_libc.inotify_add_watch(_called(_libc.inotify_init()), b"/", _MODIFY))


def _group() -> int:
    return _called(_libc.fanotify_init(_REPORT_FILES, 0))


def _mark() -> None:
    _called(_libc.fanotify_mark(_group(), _MARK_ADD, ctypes.c_uint64(_MODIFY), _HERE, b"/"))


def _namespace(flag: int) -> Callable[[], object]:
    return lambda: _called(_libc.unshare(flag))


KINDS: dict[str, Callable[[], object]] = {
    "user_namespaces": _namespace(_NEW_USER),
    "pid_namespaces": _namespace(0x20000000),
    "net_namespaces": _namespace(0x40000000),
    "mnt_namespaces": _namespace(0x00020000),
    "ipc_namespaces": _namespace(0x08000000),
    "uts_namespaces": _namespace(0x04000000),
    "cgroup_namespaces": _namespace(0x02000000),
    "time_namespaces": _namespace(0x00000080),
    "inotify_instances": lambda: _called(_libc.inotify_init()),
    "inotify_watches": _watch,
    "fanotify_groups": _group,
    "fanotify_marks": _mark,
}


@contextmanager
def _had(make: Callable[[], object], where: Path | None) -> Iterator[int]:
    """How many children could make one each, up to twice the limit; they keep it until the end of the block."""
    ends, count, children = os.pipe(), 0, []
    try:
        for _ in range(2 * MOST):
            answer = os.pipe()
            if (child := os.fork()) == 0:
                os.close(ends[1])
                os.write(answer[1], _made(make, where))
                os.read(ends[0], 1)
                os._exit(0)
            children.append(child)
            os.close(answer[1])
            result = os.read(answer[0], 100)
            os.close(answer[0])
            if result != b"made":
                assert result in {b"ENOSPC", b"EMFILE", b"EUSERS"}, result
                break
            count += 1
        yield count
    finally:
        os.close(ends[1])
        for child in children:
            os.waitpid(child, 0)
        os.close(ends[0])


def _made(make: Callable[[], object], where: Path | None) -> bytes:
    try:
        if where is not None:
            namespace = os.open(where, os.O_RDONLY)
            _called(_libc.setns(namespace, _NEW_USER))
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        make()
    except OSError as error:
        return errno.errorcode[error.errno or 0].encode()
    return b"made"


async def counted() -> dict[str, tuple[int, int]]:
    """By kind: how many could be made inside, and then beside it by root."""
    found = {}
    async with LinuxNamespaces().user(IDS) as namespace:
        for kind, make in KINDS.items():
            limit = Path("/proc/sys/user") / f"max_{kind}"
            if not limit.exists():
                continue
            before = limit.read_text()
            limit.write_text(str(MOST))
            with _had(make, namespace) as inside, _had(make, None) as outside:
                found[kind] = inside, outside
            limit.write_text(before)
    return found


def main() -> None:
    _called(_libc.unshare(_NEW_USER))
    print("in", flush=True)
    os.read(0, 10)  # the maps are written
    # Its memory belongs to the namespace only from the next program on.
    os.execv(sys.executable, [sys.executable, __file__, "mapped"])


if __name__ == "__main__":
    if sys.argv[1:] == ["mapped"]:
        print(json.dumps(asyncio.run(counted())))
    else:
        main()
