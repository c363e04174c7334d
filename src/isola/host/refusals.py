"""System calls that filters have refused, as the kernel's audit reports them to all who listen.

It tells the ids and the program of the process, not its control group; processes of instances have ids that no others
have. What is reported without a listener is lost, and so is what a listener does not read in time.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from isola.errors import Unsupported
from isola.host import kernel

_FAMILY, _SOL_NETLINK, _ADD_MEMBERSHIP, _READERS = 9, 270, 1, 1
_SECCOMP = 1326
_HEADER = struct.Struct("=IHHII")
_REFUSED = 0x00050000
"""SECCOMP_RET_ERRNO"""
_AT_ONCE, _REST = 256, 0.25
"""Messages that are read at once, and seconds of rest after as many."""
_FIELDS = re.compile(r'(\w+)=("[^"]*"|\S+)')
_NATIVE = {"c000003e": "x86_64", "c00000b7": "aarch64"}
_LONGEST = 256


@dataclass(frozen=True, slots=True)
class Refusal:
    """One call."""

    uid: int
    """On the host."""
    pid: int
    command: str
    """Name of the thread."""
    program: str
    """Path inside the mount namespace of the process; empty if it is not known."""
    call: int
    native: bool
    """Whether the number is one of the machine's own architecture."""


class Refusals(Protocol):
    """Refused system calls of this host."""

    async def listen(self, report: Callable[[Refusal], None]) -> Callable[[], None]:
        """Call ``report`` for each one until the returned function is called. Raises Unsupported."""
        ...


class LinuxRefusals:
    """By a netlink socket in the network namespace of the host's first process: elsewhere nothing is reported."""

    async def listen(self, report: Callable[[Refusal], None]) -> Callable[[], None]:
        loop = asyncio.get_running_loop()
        try:
            made = await asyncio.to_thread(_open)
        except OSError as error:
            raise Unsupported(
                "Refused system calls cannot be observed on this host",
                evidence=str(error),
                remedy="use a kernel with audit, and a daemon with CAP_AUDIT_READ",
            ) from error
        return _Listening(loop, made, report).close


def parse(message: bytes) -> Refusal | None:
    """A message of the kernel; None if it is about something else."""
    if len(message) < _HEADER.size:
        return None
    _, kind, *_ = _HEADER.unpack_from(message)
    fields = dict(_FIELDS.findall(message[_HEADER.size :].decode("utf-8", "replace"))) if kind == _SECCOMP else {}
    try:
        if int(fields["code"], 16) & 0x7FFF0000 != _REFUSED:
            return None
        return Refusal(
            int(fields["uid"]),
            int(fields["pid"]),
            _text(fields["comm"]),
            _text(fields.get("exe", "")),
            int(fields["syscall"]),
            _NATIVE.get(fields["arch"]) == os.uname().machine,
        )
    except (KeyError, ValueError):
        return None


def _text(value: str) -> str:
    """Names with spaces or quotes come as hexadecimal digits."""
    if value.startswith('"'):
        found = value.strip('"')
    elif value == "(null)":
        found = ""
    else:
        found = bytes.fromhex(value).decode("utf-8", "replace")
    return "".join(each if each.isprintable() else "?" for each in found[:_LONGEST])


class _Listening:
    """A program that makes refused calls in a loop costs the daemon no more than this many messages a second."""

    def __init__(self, loop: asyncio.AbstractEventLoop, made: socket.socket, report: Callable[[Refusal], None]) -> None:
        self._loop, self._socket, self._report = loop, made, report
        self._pause: asyncio.TimerHandle | None = None
        self._go_on()

    def close(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _go_on(self) -> None:
        self._loop.add_reader(self._socket, self._read)

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                message = self._socket.recv(16384)
            except BlockingIOError:
                return
            except OSError:
                continue  # some were lost
            if (refusal := parse(message)) is not None:
                self._report(refusal)
        self._loop.remove_reader(self._socket)
        self._pause = self._loop.call_later(_REST, self._go_on)


def _enter_first_network() -> None:
    """Where that process has more rights than the daemon, this is its own network, most likely the same one."""
    try:
        namespace = os.open("/proc/1/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return
    try:
        kernel.join(namespace, kernel.CLONE_NEWNET)
    finally:
        os.close(namespace)


def _open() -> socket.socket:
    """In a thread that enters that namespace and ends."""
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def inside() -> None:
        try:
            _enter_first_network()
            found = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _FAMILY)
            made.append(found)
            found.bind((0, 0))
            found.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _READERS)
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=inside, name="isola-refusals")
    thread.start()
    thread.join()
    if failed:
        for each in made:
            each.close()
        raise failed[0]
    return made[0]
