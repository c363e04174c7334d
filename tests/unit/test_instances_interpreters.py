"""What a program names as its interpreter, and what is missing of it; its bytes are untrusted."""

from __future__ import annotations

import dataclasses
import random
import struct
import sys
from pathlib import Path

import pytest

from isola.instances.interpreters import interpreter_of, lacking
from isola.model.identity import IdRange
from isola.runtimes import Root, RunSpec
from isola.testing.host import fake_host

SPEC = RunSpec("one", "web", Root(Path("/root")), ("/sbin/init",), IdRange(200000), system=True)
LINKED = Path(sys.executable).resolve().read_bytes()


def elf(interpreter: bytes, *, wide: bool = True, order: str = "<") -> bytes:
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    if wide:
        head = ident + struct.pack(f"{order}HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        return head + struct.pack(f"{order}IIQQQQQQ", 3, 4, 120, 0, 0, len(interpreter), 0, 1) + interpreter + b"\0"
    head = ident + struct.pack(f"{order}HHIIIIIHHHHHH", 2, 3, 1, 0, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return head + struct.pack(f"{order}IIIIIIII", 3, 84, 0, 0, len(interpreter), 0, 4, 1) + interpreter + b"\0"


@pytest.mark.parametrize(
    ("head", "named"),
    [
        (b"#!/bin/sh -e\nexit\n", "/bin/sh"),
        (b"#! /usr/bin/env python3\n", "/usr/bin/env"),
        (b"#!\n", ""),
        (b"#!/bin/\x1b[2Jsh\n", ""),
        (b"", ""),
        (b"text", ""),
        (elf(b"/lib64/ld-linux-x86-64.so.2"), "/lib64/ld-linux-x86-64.so.2"),
        (elf(b"/lib/ld-linux.so.2", wide=False), "/lib/ld-linux.so.2"),
        (elf(b"/lib/ld64.so.1", order=">"), "/lib/ld64.so.1"),
        (elf(b"/lib/ld.so")[:100], ""),
        (b"\x7fELF", ""),
    ],
)
def test_the_interpreter_that_a_program_names(head: bytes, named: str) -> None:
    assert interpreter_of(head) == named


def test_a_real_program_names_its_linker_and_damaged_ones_do_no_harm() -> None:
    assert Path(interpreter_of(LINKED[:65536])).exists()
    dice = random.Random(1)
    for _ in range(2000):
        damaged = bytearray(LINKED[:4096])
        for _ in range(20):
            damaged[dice.randrange(4, 400)] = dice.randrange(256)
        assert len(interpreter_of(bytes(damaged[: dice.randrange(4096)]))) <= 255


async def test_what_is_missing_is_named() -> None:
    host = fake_host()
    root = Path("/root")
    await host.files.write_all({}, directories={root: 0o755, root / "sbin": 0o755, root / "bin": 0o755})
    assert await lacking(host, SPEC) == "", "engines say that"
    await host.files.write(root / "sbin/init", b"#!/bin/sh\n")
    assert await lacking(host, SPEC) == "there is no /bin/sh, the interpreter of /sbin/init"
    await host.files.write(root / "bin/sh", elf(b"/lib/ld.so"))
    assert await lacking(host, SPEC) == "there is no /lib/ld.so, the interpreter of /bin/sh"
    await host.files.write(root / "bin/sh", b"static")
    assert await lacking(host, SPEC) == ""
    for other in (dataclasses.replace(SPEC, command=("init",)), dataclasses.replace(SPEC, root=Root(Path("/absent")))):
        assert await lacking(host, other) == ""
