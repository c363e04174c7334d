"""Lines of several outputs."""

from __future__ import annotations

import pytest

from isola.cli.compose.logs import lines, show
from isola.client import Client
from isola.errors import NotFound


def test_pieces_become_whole_lines_of_each_stream() -> None:
    pieces = [(1, b"a"), (2, b"error"), (1, b"b\nc\nd"), (2, b" two\n")]
    assert list(lines(iter(pieces))) == [(1, b"ab\n"), (1, b"c\n"), (2, b"error two\n"), (1, b"d\n")]


def test_endless_lines_are_printed_in_parts() -> None:
    found = list(lines((1, b"x" * 4096) for _ in range(100)))
    assert sum(len(line) - 1 for _, line in found) == 100 * 4096
    assert max(len(line) for _, line in found) < 80_000


def test_lines_have_the_names_of_their_instances() -> None:
    written: list[bytes] = []
    show(
        ["web", "db-1"],
        Client,
        lambda client, name: iter([(1, name.encode())]),
        lambda number, line: written.append(line),
        prefix=True,
    )
    assert sorted(written) == [b"db-1 | db-1\n", b"web  | web\n"]


def test_an_error_of_one_is_raised() -> None:
    def read(client: Client, name: str) -> object:
        raise NotFound(name)

    with pytest.raises(NotFound):
        show(["web"], Client, read, lambda number, line: None, prefix=False)  # type: ignore[arg-type]
