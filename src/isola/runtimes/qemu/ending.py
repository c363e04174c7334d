"""The exit status of a guest, from the report of its agent and how its machine ended. Pure."""

from __future__ import annotations

import re

REBOOT, KILLED, PANICKED = 129, 128 + 9, 255
_REPORT = re.compile(rb"exit (\d{1,3})\n", re.ASCII)
_PANIC = b"Kernel panic - not syncing"
_INIT_ENDED = re.compile(_PANIC + rb": Attempted to kill init! exitcode=0x([0-9a-f]{8})\b", re.ASCII)
"""With the status as wait(2) has it."""
_OOM = re.compile(rb"^oom [1-9]", re.ASCII | re.MULTILINE)
_STATUSES = 256
_LINES, _CHARACTERS = 4, 500


def out_of_memory(report: bytes) -> bool:
    """Whether its kernel has killed processes because its memory was used up."""
    return _OOM.search(report) is not None


def last_words(kernel: bytes) -> str:
    """The end of its kernel's log, to be shown."""
    lines = [line.strip() for line in kernel[-4096:].decode(errors="replace").splitlines()]
    text = " | ".join([line for line in lines if line][-_LINES:])
    return "".join(each for each in text if each.isprintable())[-_CHARACTERS:]


def status(report: bytes, kernel: bytes, *, reset: bool) -> int:
    """``report``: the agent's last report; ``kernel``: the end of the kernel's log; ``reset``: it has restarted itself.

    All three are the guest's, and say nothing of any other.
    """
    if b"reboot\n" in report:
        return REBOOT
    found = _REPORT.findall(report)
    if found and int(found[-1]) < _STATUSES:
        return int(found[-1])
    if (ended := _INIT_ENDED.search(kernel)) is not None:
        number = int(ended[1], 16)
        return 128 + (number & 0x7F) if number & 0x7F else number >> 8 & 0xFF
    if _PANIC in kernel:
        return PANICKED
    return REBOOT if reset else 0
