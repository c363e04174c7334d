"""Why a system's first process could not execute its program: its root lacks an interpreter."""

from __future__ import annotations

import struct

from isola.errors import IsolaError, NotFound
from isola.host import Host
from isola.host.roots import Root
from isola.runtimes import RunSpec

_DEPTH = 4
"""Interpreters of interpreters that the kernel follows."""
_LONGEST = 255
_ELF, _SCRIPT = b"\x7fELF", b"#!"
_INTERPRETER = 3
"""Type of the program header that names the dynamic linker."""


async def lacking(host: Host, spec: RunSpec) -> str:
    """The interpreter that is missing, as a sentence; empty if that is not the cause."""
    try:
        async with host.files.root(spec.root.path, idmap=spec.idmap) as root:
            return await _lacking(root, spec.command[0])
    except IsolaError:
        return ""


async def _lacking(root: Root, program: str) -> str:
    missing = ""
    for _ in range(_DEPTH):
        if not program.startswith("/"):
            return ""
        try:
            interpreter = interpreter_of(await _head(root, program))
        except NotFound:
            return missing
        missing = f"there is no {interpreter}, the interpreter of {program}"
        program = interpreter
    return ""


async def _head(root: Root, path: str) -> bytes:
    async for block in await root.read(path):
        return block
    return b""


def interpreter_of(head: bytes) -> str:
    """The path that a script or a dynamically linked program names; empty for others. Pure; the bytes are untrusted."""
    if head.startswith(_SCRIPT):
        fields = head[len(_SCRIPT) :].split(b"\n", 1)[0].split()
        return _text(fields[0]) if fields else ""
    try:
        return _linker(head) if head.startswith(_ELF) else ""
    except (struct.error, IndexError, OverflowError):
        return ""


def _linker(head: bytes) -> str:
    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
    (table,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", head, 32 if wide else 28)
    size, count = struct.unpack_from(f"{order}HH", head, 54 if wide else 42)
    for number in range(min(count, 128)):
        at = table + number * size
        (kind,) = struct.unpack_from(f"{order}I", head, at)
        if kind == _INTERPRETER:
            layout, place = (f"{order}Q", 8) if wide else (f"{order}I", 4)
            (offset,) = struct.unpack_from(layout, head, at + place)
            return _text(head[offset : offset + _LONGEST + 1].split(b"\0", 1)[0])
    return ""


def _text(path: bytes) -> str:
    found = path[:_LONGEST].decode(errors="replace")
    return found if found.isprintable() else ""
