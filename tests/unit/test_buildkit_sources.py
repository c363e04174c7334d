"""Clients of BuildKit are told where in the Dockerfile a build has failed."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator

import pytest

from isola.builds.dockerfile.parsing import parse
from isola.doors.docker.buildkit.calls import Call, Failure, answer
from isola.doors.docker.buildkit.progress import Progress
from isola.doors.docker.buildkit.sources import details, line_of
from isola.doors.docker.buildkit.wire import Message
from isola.errors import InvalidInput
from isola.model.build import BuildEvent, BuildEventKind

FILE = b"""# comment
FROM a AS one
RUN true && \\
  # in between
  exit 7

# of the next one
FROM b
RUN <<EOF
exit 3
EOF

"""


def place(text: bytes, line: int) -> tuple[str, bytes, int, int]:
    (detail,) = details("Dockerfile", text, line)
    assert Message(detail).text(1) == "github.com/moby/buildkit/errdefs.Source+json"
    source = json.loads(Message(detail).blob(2))
    (found,) = source["ranges"]
    data = base64.b64decode(source["info"]["data"])
    return source["info"]["filename"], data, found["start"]["line"], found["end"]["line"]


@pytest.mark.parametrize(("line", "last"), [(2, 2), (3, 5), (8, 8), (9, 11)])
def test_all_lines_of_an_instruction_are_named(line: int, last: int) -> None:
    assert place(FILE, line) == ("Dockerfile", FILE, line, last)


def test_what_has_no_place_has_no_details() -> None:
    for text, line in ((FILE, 0), (FILE, 99), (b"FROM a\n" * 20_000, 1), (b"", 2)):
        assert details("Dockerfile", text, line) == ()


def test_lines_that_cannot_be_parsed_are_named() -> None:
    text = b"FROM a\nFRMO b\n"
    with pytest.raises(InvalidInput) as wrong:
        parse(text)
    assert place(text, line_of(wrong.value))[2:] == (2, 2)
    assert line_of(InvalidInput("on line 2: no")) == 0
    assert place(b"FROM a\nRUN <<EOF\n", 2)[2:] == (2, 2), "a here-document that does not end"


async def test_the_line_is_that_of_the_instruction_under_way() -> None:
    progress = Progress("ref", lambda: 0)
    assert progress.line() == 0
    await progress.told(BuildEvent(BuildEventKind.STEP, 0, "FROM a", line=2))
    await progress.told(BuildEvent(BuildEventKind.RESULT, 0))
    assert progress.line() == 0
    await progress.told(BuildEvent(BuildEventKind.STEP, 0, "RUN --mount=type=cache,target=/d exit 7", line=3))
    assert progress.line() == progress.line("/bin/sh -c exit 7") == 3
    await progress.told(BuildEvent(BuildEventKind.STEP, 1, "COPY --from=0 / /x", line=8))
    assert (progress.line(), progress.line("/bin/sh -c exit 7"), progress.line("/bin/sh -c other")) == (0, 3, 0)
    await progress.told(BuildEvent(BuildEventKind.STEP, 2, "RUN exit 7", line=10))
    assert progress.line("/bin/sh -c exit 7") == 0, "it may be either"


class Trailers:
    """A stream of HTTP/2 that remembers what ends it."""

    failed = None

    def __init__(self) -> None:
        self.sent: dict[str, str] = {}

    def header(self, name: str) -> str:
        return "/method"

    async def send_headers(self, fields: list[tuple[str, str]], *, end: bool = False) -> None:
        self.sent |= dict(fields) if end else {}


@pytest.mark.parametrize("known", [True, False])
async def test_details_go_with_the_status(known: bool) -> None:
    given = details("Dockerfile", FILE, 3) if known else ()

    async def method(call: Call) -> AsyncIterator[bytes]:
        raise Failure(2, "it has failed", given)
        yield b""

    stream = Trailers()
    await answer(stream, {"/method": method}, "unknown")  # type: ignore[arg-type]
    assert (stream.sent["grpc-status"], stream.sent["grpc-message"]) == ("2", "it has failed")
    assert ("grpc-status-details-bin" in stream.sent) == known
    if known:
        encoded = stream.sent["grpc-status-details-bin"]
        status = Message(base64.b64decode(encoded + "=" * (-len(encoded) % 4)))
        assert (status.number(1), status.text(2), tuple(status.blobs(3))) == (2, "it has failed", tuple(given))
        assert "=" not in encoded
