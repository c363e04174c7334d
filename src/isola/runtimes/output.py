"""What the first process of a guest says, and its input where it has one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol


class Channel(Enum):
    """Where it came out. All that a terminal shows came out of ``STDOUT``."""

    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the log, or a part of a long one."""

    at: datetime
    """When it was read from the process, in UTC."""
    channel: Channel
    data: bytes
    """With the line feed at the end, where this is the end of the line."""


class Attachment(Protocol):
    """A client's hold on the output and the input of a first process. Several clients may have one at a time."""

    async def read(self) -> tuple[Channel, bytes] | None:
        """The next block since it was attached; None at the end. One reader at a time."""
        ...

    async def write(self, data: bytes) -> None:
        """To its input, or with a terminal to that; nothing where it has no input."""
        ...

    def end_input(self) -> None:
        """Close its input: it reads EOF, unless it has a terminal; output is still read. No effect if done before."""
        ...

    def close(self) -> None:
        """Detach; the process goes on, its input comes to its end."""
        ...
