"""The place of a failure in the Dockerfile, which clients of BuildKit show with the lines around it."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from contextlib import suppress

from isola.builds.dockerfile.lines import read_source
from isola.doors.docker.buildkit.wire import message
from isola.doors.http.json import dumps
from isola.errors import InvalidInput, IsolaError

_TYPE = "github.com/moby/buildkit/errdefs.Source+json"
_LARGEST = 64 << 10
"""Of a Dockerfile that is sent back: it becomes a header."""
_LINE = re.compile(r"dockerfile parse error on line ([0-9]{1,9}): ")


def details(name: str, text: bytes, line: int) -> Sequence[bytes]:
    """Details of a status. ``line``: of the instruction, from 1; 0 if it is not known."""
    if not 0 < line <= text.count(b"\n") + 1 or len(text) > _LARGEST:
        return ()
    source = {
        "info": {"filename": name, "data": base64.b64encode(text).decode(), "language": "Dockerfile"},
        "ranges": [{"start": {"line": line}, "end": {"line": _last(text, line)}}],
    }
    return (message({1: _TYPE, 2: dumps(source)}),)


def _last(text: bytes, line: int) -> int:
    """The last line of the instruction that begins there, with its continuations and here-documents."""
    lines = text.split(b"\n")
    with suppress(IsolaError):
        last = next((each.number for each in read_source(text).lines if each.number > line), len(lines) + 1) - 1
        while last > line and (not lines[last - 1].strip() or lines[last - 1].lstrip().startswith(b"#")):
            last -= 1
        return last
    return line


def line_of(error: InvalidInput) -> int:
    """Of an error of the parser; 0 if it names none."""
    found = _LINE.match(error.message)
    return int(found[1]) if found is not None else 0
