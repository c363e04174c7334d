"""Converts squashfs images to tar streams, by a program in a separate cell."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from isola.errors import InvalidInput, Unsupported
from isola.host import cell
from isola.host.cell import Cell, Inside
from isola.host.programs import find_program

_IMAGE = "/image"
_COMMAND = ("sqfs2tar", _IMAGE)
_NOT_HERE = 99
_LIBRARIES = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/etc/ld.so.cache")
"""What a program of a distribution needs to start. Directories show what an unprivileged user can read."""
_GRACE = 5.0
"""Seconds for the program to end once all of its output has been read."""


class Converter:
    """A running conversion. The program can read its libraries and the image, and write the stream only."""

    def __init__(self, image: Path, *, seconds: int, command: Sequence[str] = _COMMAND) -> None:
        found = find_program(command[0])
        if found is None:
            raise Unsupported(
                "The root file system is a squashfs image", remedy="install the package squashfs-tools-ng"
            )
        program = os.path.realpath(found)
        reading, writing = os.pipe()
        self.output = os.fdopen(reading, "rb", buffering=0)
        """The tar stream."""

        def work(inside: Inside) -> Mapping[str, object]:
            if not os.path.exists(_IMAGE):  # without a mount namespace it would see the host
                os._exit(_NOT_HERE)
            os.dup2(writing, 1)
            os.dup2(0, 2)
            os.execv(program, [*command])

        places = [*_LIBRARIES, *([] if program.startswith("/usr/") else [os.path.dirname(program)])]
        shown = {place.strip("/"): Path(place) for place in places if os.path.exists(place)}
        place = Cell(
            shown={**shown, _IMAGE.strip("/"): image}, owner=0, programs=True, keep=(writing,), seconds=seconds
        )
        self._process = cell.start(place, work)
        os.close(writing)

    def end(self) -> None:
        """Wait for the end. Raises InvalidInput if the program reported an error in the image."""
        self.output.close()
        for _ in range(int(_GRACE / 0.02)):
            if (status := self._process.ended()) is not None:
                break
            time.sleep(0.02)
        else:
            self._process.kill()
            status = self._process.wait()
        if status == _NOT_HERE:
            raise Unsupported(
                "squashfs images cannot be read on this host",
                evidence="it does not let processes have a mount namespace",
            )
        if status != 0:
            raise InvalidInput("The squashfs image is damaged", evidence=f"{_COMMAND[0]} ended with {status}")
