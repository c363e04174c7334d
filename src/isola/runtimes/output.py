"""Output of the first process of a guest, and its input if it has one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol


class Channel(Enum):
    """The stream of the output. All output of a terminal belongs to ``STDOUT``."""

    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the log, or a part of a long one."""

    at: datetime
    """When it was read from the process, in UTC."""
    channel: Channel
    data: bytes
    """With a line feed at the end, unless the line continues."""


class Attachment(Protocol):
    """A client's attachment to the output and input of a first process. There may be several at a time."""

    async def read(self) -> tuple[Channel, bytes] | None:
        """The next block since it was attached; None at the end. One reader at a time."""
        ...

    async def write(self, data: bytes) -> None:
        """Write to its input or terminal; no effect if it has no input."""
        ...

    def end_input(self) -> None:
        """Close its input: it reads EOF, unless it has a terminal; output is still read. No effect if done before."""
        ...

    def close(self, *, keep_input: bool = False) -> None:
        """Detach; the process keeps running, and its input ends unless ``keep_input`` says that others may write it."""
        ...
