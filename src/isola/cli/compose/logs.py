"""``isola compose logs``: the output of several instances, each line after the name of its instance."""

from __future__ import annotations

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from isola.client import Client

    Pieces = Iterator[tuple[int, bytes]]
    Read = Callable[[Client, str], Pieces]
    Write = Callable[[int, bytes], object]

_LONGEST = 1 << 16
"""Bytes of a line after which it is printed in parts, so that memory is bounded."""


def show(names: Sequence[str], connect: Callable[[], Client], read: Read, write: Write, *, prefix: bool) -> None:
    """Print what ``read`` gives of each, side by side: a client serves one thread. Raises the first error."""
    width = max(map(len, names), default=0)
    lock, errors = threading.Lock(), list[BaseException]()

    def one(name: str) -> None:
        head = f"{name.ljust(width)} | ".encode() if prefix else b""
        try:
            with connect() as client:
                for number, line in lines(read(client, name)):
                    with lock:
                        write(number, head + line)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def lines(pieces: Pieces) -> Iterator[tuple[int, bytes]]:
    """Whole lines of each stream; a last one without a line feed gets one."""
    rest: dict[int, bytes] = {}
    for number, data in pieces:
        *whole, last = (rest.get(number, b"") + data).split(b"\n")
        for line in whole:
            yield number, line + b"\n"
        if len(last) > _LONGEST:
            yield number, last + b"\n"
            last = b""
        rest[number] = last
    for number, line in rest.items():
        if line:
            yield number, line + b"\n"
