"""Recording what the processes of an instance ask of the kernel: by programs in the kernel, which only count.

The processes are known by their ids, which no other instance has, and by the filter of system calls that they have
already: what the engine does before is not recorded. Nothing of it changes what they do, and if the daemon ends,
so does the recording.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from isola.errors import IsolaError, Unsupported
from isola.host import bpf
from isola.host.bpf import Code, Table
from isola.host.btf import KernelTypes
from isola.host.opened_files import OpenedFiles
from isola.host.port_programs import PortRecording
from isola.host.proc import ProcessRef, open_of
from isola.host.threads import in_thread
from isola.model.identity import IdRange
from isola.model.recorded import Recorded

_LISTENS, _LOOPBACK_6 = "0A", "00000000000000000000000001000000"
_MOST_TEXT = 4 << 20
_FILTERED = 2
"""``task->seccomp.mode`` of a process with a filter."""
_NO_AUDIT = 2
"""Checks of a capability that make no difference to its process."""
_USER32 = 0x23
"""Code segment of 32-bit programs."""
_ENGINES = (b"runc", b"crun")
_CALLS_OF_32_BIT = 1 << 16
_VALUE, _KEY, _SEGMENT, _COMMAND = -8, -16, -24, -40
"""Places on the stack of the programs."""


class Recording(Protocol):
    """A recording in progress."""

    async def follow(self, process: ProcessRef | None, group: Path | None) -> None:
        """A run begins: files in the root of this process and ports of this group are recorded, too.

        ``group``: its directory in cgroup2. What cannot be recorded is noted.
        """
        ...

    async def read(self) -> Recorded:
        """What has been seen until now."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Recorder(Protocol):
    """Starts recordings."""

    async def record(self, ids: IdRange) -> Recording:
        """Of all processes with these host ids. Raises Unsupported with the reason."""
        ...

    async def listening(self, process: ProcessRef) -> frozenset[str]:
        """Ports that sockets in the network namespace of a process listen on: ``tcp/80``; none if it has ended."""
        ...


class LinuxRecorder:
    """By BPF programs."""

    def __init__(self) -> None:
        self._types: KernelTypes | None = None

    async def record(self, ids: IdRange) -> Recording:
        return await in_thread(self._begin, ids)

    async def listening(self, process: ProcessRef) -> frozenset[str]:
        return await in_thread(_listening, process)

    def _begin(self, ids: IdRange) -> Recording:
        if os.uname().machine != "x86_64":
            raise Unsupported(
                "System calls can be recorded on x86-64 alone", remedy="learn there; the profile is valid here too"
            )
        try:
            types = self._types = self._types or KernelTypes()
            return _Programs(types, ids)
        except (OSError, ValueError, KeyError) as error:
            raise Unsupported(
                "System calls cannot be recorded on this host",
                evidence=str(error),
                remedy="use a kernel with BPF and BTF, such as Debian's, and a daemon with CAP_SYS_ADMIN",
            ) from error


def parse_sockets(kind: str, text: str) -> Iterator[str]:
    """Of a file such as ``/proc/net/tcp``: those that listen, on more than the loopback."""
    for line in text.splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        address, _, port = local.rpartition(":")
        waits = state == _LISTENS if kind == "tcp" else remote.endswith(":0000")
        if waits and not (address.endswith("0100007F") or address == _LOOPBACK_6):
            yield f"{kind}/{int(port, 16)}"


def _listening(process: ProcessRef) -> frozenset[str]:
    found: set[str] = set()
    for name in ("tcp", "tcp6", "udp", "udp6"):
        try:
            with os.fdopen(open_of(process, f"net/{name}"), "r") as file:
                found.update(parse_sockets(name.rstrip("6"), file.read(_MOST_TEXT)))
        except (OSError, ValueError, IsolaError):
            continue
    return frozenset(found)


class _Programs:
    def __init__(self, types: KernelTypes, ids: IdRange) -> None:
        with ExitStack() as stack:
            self._calls, self._rights = Table(4, 8, 4096), Table(4, 8, 64)
            stack.callback(self._calls.close)
            stack.callback(self._rights.close)
            mode, segment = types.offset("task_struct", "seccomp", "mode"), types.offset("pt_regs", "cs")
            calls = _counting_calls(ids, mode, segment, self._calls)
            stack.callback(os.close, bpf.attach(calls, bpf.RAW_TRACEPOINT, tracepoint="sys_enter"))
            stack.callback(os.close, _watch_rights(types, ids, mode, self._rights))
            self._missed: list[str] = []
            self._files: OpenedFiles | None = None
            try:
                self._files = OpenedFiles()
                stack.callback(self._files.close)
            except OSError as error:
                self._missed.append(f"files that are opened: {error.strerror}")
            self._ports = _Ports(self._missed)
            stack.callback(self._ports.close)
            self._open = stack.pop_all()

    async def follow(self, process: ProcessRef | None, group: Path | None) -> None:
        await in_thread(self._follow, process, group)

    def _follow(self, process: ProcessRef | None, group: Path | None) -> None:
        if self._files is not None and process is not None:
            try:
                self._files.follow(process)
            except (OSError, IsolaError) as error:
                self._missed.append(f"files that are opened: {error}")
        self._ports.follow(group)

    async def read(self) -> Recorded:
        return await in_thread(self._read)

    def close(self) -> None:
        self._open.close()

    def _read(self) -> Recorded:
        calls = [_number(key) for key, _ in self._calls.items()]
        return Recorded(
            frozenset(each for each in calls if each < _CALLS_OF_32_BIT),
            any(each >= _CALLS_OF_32_BIT for each in calls),
            frozenset(_number(key) for key, _ in self._rights.items()),
            opened=frozenset(self._files.directories) if self._files is not None else frozenset(),
            listens=self._ports.seen("listen"),
            connects=self._ports.seen("connect"),
            missed=tuple(dict.fromkeys((*self._missed, *self._lost()))),
        )

    def _lost(self) -> Iterator[str]:
        if self._files is not None and self._files.lost:
            yield "some of the files that were opened: there were too many"
        if self._ports.full:
            yield "some of the ports: there were too many"


class _Ports:
    """Of one run after the other."""

    def __init__(self, missed: list[str]) -> None:
        self.full = False
        self._missed, self._known = missed, set[tuple[str, str]]()
        self._now: PortRecording | None = None
        self._works = True

    def follow(self, group: Path | None) -> None:
        self.close()
        if group is None:
            self._works = False
            return
        try:
            self._now = PortRecording(str(group))
        except OSError as error:
            self._works = False
            self._missed.append(f"ports that are connected to: {error.strerror}")

    def seen(self, kind: str) -> frozenset[str] | None:
        self._look()
        return frozenset(port for of, port in self._known if of == kind) if self._works else None

    def close(self) -> None:
        self._look()
        if self._now is not None:
            self._now.close()
            self._now = None

    def _look(self) -> None:
        if self._now is not None:
            self._known |= self._now.read()
            self.full = self.full or self._now.full()


def _number(key: bytes) -> int:
    return int.from_bytes(key, "little")


def _watch_rights(types: KernelTypes, ids: IdRange, mode: int, table: Table) -> int:
    """By the kernel's own point of observation, or, before Linux 6.14, where its function returns."""
    try:
        return bpf.attach(_counting_rights(ids, mode, 3, None, table), bpf.RAW_TRACEPOINT, tracepoint="cap_capable")
    except FileNotFoundError:
        code = _counting_rights(ids, mode, 2, 3, table)
        return bpf.attach(code, bpf.TRACING, function=types.function("cap_capable"), when=bpf.FEXIT)


# --- the programs: r6 is what they are given ------------------------------------------------------------------------


def _of_instance(code: Code, ids: IdRange, mode: int) -> None:
    """Go on for processes of the instance that have their filter."""
    code.add(bpf.MOVE, 6, 1)
    code.call(bpf.UID_GID)
    code.add(bpf.MOVE_LOWER, 0, 0)
    code.wide(1, ids.base)
    code.jump(bpf.JUMP_IF_BELOW, 0, "end", source=1)
    code.wide(1, ids.base + ids.size)
    code.jump(bpf.JUMP_IF_NOT_BELOW, 0, "end", source=1)
    code.call(bpf.CURRENT_TASK)
    code.add(bpf.LOAD_4, 1, 0, mode)
    code.jump(bpf.JUMP_IF_NOT_EQUAL, 1, "end", value=_FILTERED)


def _count(code: Code, table: Table) -> None:
    """Make an entry with the key on the stack, unless there is one."""
    code.look_up(table, _KEY)
    code.jump(bpf.JUMP_IF_NOT_EQUAL, 0, "end")
    code.add(bpf.STORE_IMMEDIATE_8, bpf.STACK, 0, _VALUE, 1)
    code.enter(table, _KEY, _VALUE)
    code.place("end")
    code.add(bpf.MOVE_IMMEDIATE, 0)
    code.add(bpf.EXIT)


def _counting_calls(ids: IdRange, mode: int, segment: int, table: Table) -> Code:
    code = Code()
    _of_instance(code, ids, mode)
    code.add(bpf.LOAD_8, 7, 6, 8)
    code.add(bpf.LOAD_8, 3, 6, 0)
    code.add(bpf.ADD_IMMEDIATE, 3, value=segment)
    code.point(1, _SEGMENT)
    code.add(bpf.MOVE_IMMEDIATE, 2, value=8)
    code.call(bpf.PROBE_READ)
    code.add(bpf.LOAD_8, 1, bpf.STACK, _SEGMENT)
    code.jump(bpf.JUMP_IF_NOT_EQUAL, 1, "native", value=_USER32)
    code.add(bpf.ADD_IMMEDIATE, 7, value=_CALLS_OF_32_BIT)
    code.place("native")
    code.add(bpf.STORE_4, bpf.STACK, 7, _KEY)
    _count(code, table)
    return code


def _end_for_engines(code: Code) -> None:
    """They give up what the program does not get. A sealed copy of one is called by the number of its descriptor."""
    for place in (_COMMAND, _COMMAND + 1):
        code.add(bpf.LOAD_1, 1, bpf.STACK, place)
        if place != _COMMAND:
            code.jump(bpf.JUMP_IF_EQUAL, 1, "end")
        code.jump(bpf.JUMP_IF_LESS, 1, "named", value=ord("0"))
        code.jump(bpf.JUMP_IF_GREATER, 1, "named", value=ord("9"))
    code.jump(bpf.JUMP, 0, "end")
    code.place("named")
    code.add(bpf.LOAD_4, 1, bpf.STACK, _COMMAND)
    for engine in _ENGINES:
        code.jump(bpf.JUMP_IF_EQUAL, 1, "end", value=int.from_bytes(engine, "little"))


def _counting_rights(ids: IdRange, mode: int, which: int, options: int | None, table: Table) -> Code:
    """``which``: the argument with the capability; its answer is the fifth."""
    code = Code()
    _of_instance(code, ids, mode)
    code.add(bpf.LOAD_8, 1, 6, 8 * 4)
    code.add(bpf.MOVE_LOWER, 1, 1)
    code.jump(bpf.JUMP_IF_NOT_EQUAL, 1, "end")
    if options is not None:
        code.add(bpf.LOAD_8, 1, 6, 8 * options)
        code.add(bpf.AND_IMMEDIATE, 1, value=_NO_AUDIT)
        code.jump(bpf.JUMP_IF_NOT_EQUAL, 1, "end")
    code.point(1, _COMMAND)
    code.add(bpf.MOVE_IMMEDIATE, 2, value=16)
    code.call(bpf.COMMAND)
    _end_for_engines(code)
    code.add(bpf.LOAD_8, 7, 6, 8 * which)
    code.add(bpf.STORE_4, bpf.STACK, 7, _KEY)
    _count(code, table)
    return code
