"""How the daemon's messages are written: the journal of systemd has the time and a priority of its own.

A message may contain what an instance, an image or a client has chosen. Its lines after the first are indented and its
control characters escaped, so that it is no message of another kind, and no command for the terminal that shows it.
"""

from __future__ import annotations

import logging
import os

_FILE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_JOURNAL = "%(name)s: %(message)s"
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7
_INDENT = "    "


def log_lines(stream: int = 2) -> logging.Formatter:
    """For messages that are written to this descriptor."""
    return _JournalLines(_JOURNAL) if _is_journal(stream) else _Lines(_FILE)


def _is_journal(stream: int) -> bool:
    """Whether systemd has connected it; the variable is inherited also where the output leads elsewhere."""
    status = os.fstat(stream)
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _Lines(logging.Formatter):
    """Whole messages, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return f"\n{_INDENT}".join(map(_printable, super().format(record).split("\n")))


class _JournalLines(_Lines):
    """Each line with its priority, as sd-daemon(3) describes: the journal takes each as a message."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next((value for level, value in _PRIORITIES if record.levelno >= level), _DEBUG)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).split("\n"))


def _printable(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line)
