"""How a guest has ended."""

from __future__ import annotations

import pytest

from isola.runtimes.qemu import ending

PANIC = b"[ 1.2] Kernel panic - not syncing: VFS: something else\r\n"
INIT_ENDED = b"[ 1.2] Kernel panic - not syncing: Attempted to kill init! exitcode=0x%08x\r\n"


@pytest.mark.parametrize(
    ("said", "kernel", "reset", "status"),
    [
        (b"exit 0\n", b"", False, 0),
        (b"exit 7\n", b"", False, 7),
        (b"exit 137\n", b"", True, 137),
        (b"reboot\n", b"", True, 129),
        (b"exit 7\nexit 9\n", b"", False, 9),
        (b"exit 999\n", b"", False, 0),
        (b"exit \xd9\xa3\n", b"", False, 0),
        (b"\x00\xff" * 100, b"", False, 0),
        (b"", b"", False, 0),
        (b"", b"", True, 129),
        (b"", PANIC, True, 255),
        (b"exit 3\n", PANIC, True, 3),
        (b"", INIT_ENDED % 0x300, True, 3),
        (b"", INIT_ENDED % 9, True, 137),
        (b"", INIT_ENDED % 0x8B, True, 139),
    ],
)
def test_the_status_is_what_the_agent_has_said(said: bytes, kernel: bytes, reset: bool, status: int) -> None:
    assert ending.status(said, kernel, reset=reset) == status


def test_the_agent_says_whether_memory_was_used_up() -> None:
    assert ending.out_of_memory(b"oom 2\nexit 137\n") and ending.status(b"oom 2\nexit 137\n", b"", reset=False) == 137
    assert not ending.out_of_memory(b"oom 0\nexit 137\n") and not ending.out_of_memory(b"exit 1\n")
