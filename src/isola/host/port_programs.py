"""Programs in the kernel that decide to which ports the processes of a control group may bind and connect.

They are attached to the group itself, so they outlive the daemon and end with the group. A refused call fails with
EPERM and is counted in a table that the programs share, which any later daemon finds through them. Everything here
blocks for microseconds.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack

from isola.errors import HostFailure
from isola.host import bpf
from isola.host.bpf import Code, Table
from isola.model.ports import PROTOCOLS, Span, span

NAME = "isola_ports"
LISTEN, CONNECT = 1, 2
_NAMES = {LISTEN: "listen", CONNECT: "connect"}
_BINDS, _CONNECTS, _SENDS = (8, 9), (10, 11), (14, 15)
"""Points of observation, for IPv4 and IPv6."""
_MOST, _MOST_REFUSED = 256, 64
"""Ports that are distinguished by a recording, and of refused ones, which the daemon reads often."""
_PORT, _TYPE, _PROTOCOL, _SOCKET, _SOURCE_PORT = 24, 32, 36, 64, 44
"""Places in ``struct bpf_sock_addr``; the last one in ``struct bpf_sock``."""
_STREAM, _DATAGRAM = 1, 2
_ECHO = (1, 58)
"""Protocols of datagrams without ports: ``ping``."""
_TCP, _UDP = PROTOCOLS["tcp"], PROTOCOLS["udp"]
_KEY, _VALUE, _OTHER_KEY = -4, -16, -20


def limit(directory: str, listens: Collection[str] | None, connects: Collection[str] | None) -> None:
    """Only these ports from now on; None: all. Raises HostFailure."""
    try:
        with ExitStack() as stack:
            group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, group)
            wanted = dict(_wanted(stack, group, listens, connects)) if (listens, connects) != (None, None) else {}
            for point in (*_BINDS, *_CONNECTS, *_SENDS):
                old = _own(stack, group, point)
                if point in wanted:
                    bpf.attach_to_group(group, wanted[point], point, replace=old)
                elif old is not None:
                    bpf.detach_from_group(group, old, point)
    except OSError as error:
        if (listens, connects) == (None, None):
            return  # nothing is attached where nothing can be
        raise HostFailure(
            "Ports cannot be limited on this host",
            evidence=str(error),
            remedy="use a kernel with BPF for control groups and a mounted cgroup2, or unset isola.ports.*",
        ) from error


def refused(directory: str) -> Mapping[str, int]:
    """How often, by ``listen tcp/80`` or ``connect udp/53``, since there is a limit."""
    found: dict[str, int] = {}
    try:
        with ExitStack() as stack:
            group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, group)
            for point in (_BINDS[0], _CONNECTS[0]):
                if (program := _own(stack, group, point)) is None:
                    continue
                for table in _tables(stack, program):
                    found |= {_text(key): int.from_bytes(value, "little") for key, value in table.items()}
    except OSError:
        return {}
    return found


class PortRecording:
    """What the processes of a group bind and connect to, which nothing keeps them from; ends with the daemon."""

    def __init__(self, directory: str) -> None:
        """Raises OSError."""
        with ExitStack() as stack:
            group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with_group = ExitStack()
            with with_group:
                with_group.callback(os.close, group)
                self._table = Table(4, 8, _MOST)
                stack.callback(self._table.close)
                for point in (*_BINDS, *_CONNECTS, *_SENDS):
                    program = bpf.load_for_group(_code(point, (), (), self._table, record=True), point, NAME)
                    with_group.callback(os.close, program)
                    stack.callback(os.close, bpf.link_to_group(group, program, point))
            self._open = stack.pop_all()

    def read(self) -> frozenset[tuple[str, str]]:
        """``("listen", "tcp/80")``."""
        parts = (_text(key).partition(" ") for key, _ in self._table.items())
        return frozenset((kind, port) for kind, _, port in parts)

    def full(self) -> bool:
        """Whether others may have been missed."""
        return sum(1 for _ in self._table.items()) >= _MOST

    def close(self) -> None:
        self._open.close()


def _text(key: bytes) -> str:
    number = int.from_bytes(key, "little")
    protocol = "udp" if number >> 16 & 0xFF == _UDP else "tcp"
    return f"{_NAMES.get(number >> 24, 'connect')} {protocol}/{number & 0xFFFF}"


def _wanted(
    stack: ExitStack, group: int, listens: Collection[str] | None, connects: Collection[str] | None
) -> Iterator[tuple[int, int]]:
    """The point and the program. What was counted before stays."""
    before = (program for point in (_BINDS[0], _CONNECTS[0]) if (program := _own(stack, group, point)) is not None)
    table = next((table for program in before for table in _tables(stack, program)), None)
    if table is None:
        table = Table(4, 8, _MOST_REFUSED)
        stack.callback(table.close)
    bound = tuple(map(span, listens or ()))
    points = (*(_BINDS if listens is not None else ()), *((*_CONNECTS, *_SENDS) if connects is not None else ()))
    for point in points:
        allowed = bound if point in _BINDS else tuple(map(span, connects or ()))
        program = bpf.load_for_group(_code(point, allowed, bound, table), point, NAME)
        stack.callback(os.close, program)
        yield point, program


def _tables(stack: ExitStack, program: int) -> list[Table]:
    found = list(bpf.tables_of(program, 4, 8))
    for each in found:
        stack.callback(each.close)
    return found


def _own(stack: ExitStack, group: int, point: int) -> int | None:
    """The program of an earlier limit."""
    for program in bpf.programs_of_group(group, point):
        if bpf.name_of(program) == NAME:
            stack.callback(os.close, program)
            return program
        os.close(program)
    return None


# --- the programs: r6 is what they are given, r7 the protocol, r8 the port --------------------------------------------


def _code(
    point: int, allowed: Collection[Span], bound: Collection[Span], table: Table, *, record: bool = False
) -> Code:
    code = Code()
    code.add(bpf.MOVE, 6, 1)
    code.add(bpf.LOAD_4, 1, 6, _TYPE)
    code.add(bpf.MOVE_IMMEDIATE, 7, value=_TCP)
    code.jump(bpf.JUMP_IF_EQUAL, 1, "known", value=_STREAM)
    code.jump(bpf.JUMP_IF_NOT_EQUAL, 1, "allow", value=_DATAGRAM)
    code.add(bpf.LOAD_4, 1, 6, _PROTOCOL)
    for protocol in _ECHO:
        code.jump(bpf.JUMP_IF_EQUAL, 1, "allow", value=protocol)
    code.add(bpf.MOVE_IMMEDIATE, 7, value=_UDP)
    code.place("known")
    code.add(bpf.LOAD_4, 8, 6, _PORT)
    code.add(bpf.TO_HOST_ORDER, 8, value=16)
    if point in _BINDS:
        code.jump(bpf.JUMP_IF_EQUAL, 8, "allow", value=0)  # any free one, as clients have
    _spans(code, allowed, 7, 8, "allowed")
    if point in _SENDS:
        _answers(code, bound, table, record=record)
    _count(code, LISTEN if point in _BINDS else CONNECT, table)
    code.add(bpf.MOVE_IMMEDIATE, 0, value=int(record))
    code.add(bpf.EXIT)
    code.place("allow")
    code.add(bpf.MOVE_IMMEDIATE, 0, value=1)
    code.add(bpf.EXIT)
    return code


def _spans(code: Code, allowed: Collection[Span], protocol: int, port: int, name: str) -> None:
    for number, each in enumerate(allowed):
        after = f"{name} {number}"
        code.jump(bpf.JUMP_IF_NOT_EQUAL, protocol, after, value=PROTOCOLS[each.protocol])
        code.jump(bpf.JUMP_IF_LESS, port, after, value=each.first)
        code.jump(bpf.JUMP_IF_NOT_GREATER, port, "allow", value=each.last)
        code.place(after)


def _answers(code: Code, bound: Collection[Span], table: Table, *, record: bool) -> None:
    """Datagrams from a port of a server are answers."""
    code.add(bpf.LOAD_8, 9, 6, _SOCKET)
    code.jump(bpf.JUMP_IF_EQUAL, 9, "no server", value=0)
    code.add(bpf.LOAD_4, 9, 9, _SOURCE_PORT)
    if record:
        code.add(bpf.OR_IMMEDIATE, 9, value=LISTEN << 24 | _UDP << 16)
        code.add(bpf.STORE_4, bpf.STACK, 9, _OTHER_KEY)
        code.look_up(table, _OTHER_KEY)
        code.jump(bpf.JUMP_IF_NOT_EQUAL, 0, "allow")
    else:
        _spans(code, bound, 7, 9, "answers")
    code.place("no server")


def _count(code: Code, kind: int, table: Table) -> None:
    code.add(bpf.SHIFT_LEFT_IMMEDIATE, 7, value=16)
    code.add(bpf.OR, 8, 7)
    code.add(bpf.OR_IMMEDIATE, 8, value=kind << 24)
    code.add(bpf.STORE_4, bpf.STACK, 8, _KEY)
    code.look_up(table, _KEY)
    code.jump(bpf.JUMP_IF_EQUAL, 0, "first")
    code.add(bpf.MOVE_IMMEDIATE, 1, value=1)
    code.add(bpf.ATOMIC_ADD_8, 0, 1)
    code.jump(bpf.JUMP, 0, "counted")
    code.place("first")
    code.add(bpf.STORE_IMMEDIATE_8, bpf.STACK, 0, _VALUE, 1)
    code.enter(table, _KEY, _VALUE)
    code.place("counted")
