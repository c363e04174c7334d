"""Runs qemu-img in a cell: it can read its libraries and one disk, and change one new file."""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from isola.errors import InvalidInput, StorageFull, UnsafeArchive, Unsupported
from isola.host import cell, confine
from isola.host.cell import Cell, Inside
from isola.host.exhaustion import reports_full_disk
from isola.host.programs import find_program

SOURCE, BELOW, TARGET = "source", "below", "target"
"""Names of the files in its root."""
_LIBRARIES = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/etc/ld.so.cache")
_NOT_HERE = 99
_MOST_OUTPUT = 64 << 10
_MEMORY = 4 << 30
_NO_EPOLL = "Failed to create epoll instance: Operation not permitted"
_OPTIONS = re.compile(r"'json:\{[^']*\}'")
_PERCENT = re.compile(rb"\((\d{1,3})\.\d\d/100%\)")


def run(
    arguments: Sequence[str],
    *,
    shown: Mapping[str, Path],
    changed: Mapping[str, Path],
    seconds: int,
    file_size: int = 0,
    progress: Callable[[int], None] | None = None,
) -> bytes:
    """Its output. ``progress`` is called with percents. Raises InvalidInput with its message, Unsupported."""
    found = find_program("qemu-img")
    if found is None:
        raise Unsupported("Disks of virtual machines need qemu-img", remedy="install the package qemu-utils")
    program = os.path.realpath(found)
    output, errors = _Pipe(), _Pipe()

    def work(inside: Inside) -> Mapping[str, object]:
        if any(not os.path.exists(f"/{name}") for name in (*shown, *changed)):  # it would see the host
            os._exit(_NOT_HERE)
        os.dup2(output.writing, 1)
        os.dup2(errors.writing, 2)
        os.execve(program, ["qemu-img", *arguments], {"LC_ALL": "C"})

    places = [*_LIBRARIES, *([] if program.startswith("/usr/") else [os.path.dirname(program)])]
    libraries = {place.strip("/"): Path(place) for place in places if os.path.exists(place)}
    place = Cell(
        shown={**libraries, **shown},
        changed=changed,
        owner=0,
        capabilities=(confine.CAP_DAC_OVERRIDE,),
        programs=True,
        keep=(output.writing, errors.writing),
        seconds=seconds,
        file_size=file_size,
        memory=_MEMORY,
    )
    process = cell.start(place, work)
    _read(output, errors, progress)
    _check(process.wait(), errors.content)
    return output.content


class _Pipe:
    """Output of the program, of which the beginning is kept."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.content = b""

    def take(self) -> bytes:
        """The next piece; empty at the end."""
        data = os.read(self.reading, 8192)
        if len(self.content) < _MOST_OUTPUT:
            self.content += data
        return data


def _read(output: _Pipe, errors: _Pipe, progress: Callable[[int], None] | None) -> None:
    reported, open_ones = 0.0, {output.reading: output, errors.reading: errors}
    for pipe in (output, errors):
        os.close(pipe.writing)
    while open_ones:
        for descriptor in select.select([*open_ones], [], [])[0]:
            if not (data := open_ones[descriptor].take()):
                os.close(descriptor)
                del open_ones[descriptor]
            elif progress is not None and (found := _PERCENT.findall(data)) and time.monotonic() - reported >= 0.1:
                reported = time.monotonic()
                progress(int(found[-1]))


def _check(status: int, output: bytes) -> None:
    if status == 0:
        return
    if status == _NOT_HERE:
        raise Unsupported(
            "Disk images cannot be read on this host",
            evidence="it does not let processes have a mount namespace",
        )
    if status < 0:
        raise UnsafeArchive("The disk image exceeds the limits on time, memory or size", evidence=f"signal {-status}")
    text = _message(output.decode("utf-8", "replace"))
    if reports_full_disk(text):
        raise StorageFull("The disk is full", evidence=text)
    raise InvalidInput("The disk image is damaged", evidence=text or f"status {status}", remedy="send it again")


def _message(text: str) -> str:
    """The message for people: without what the filter of system calls makes it say, and without our options."""
    return _OPTIONS.sub("the disk image", text.replace(_NO_EPOLL, "")).strip()[-500:]
