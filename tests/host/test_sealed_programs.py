"""Sealed copies of programs in memory: execution, updates, and the time that they save an engine."""

from __future__ import annotations

import asyncio
import mmap
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from descriptors import descriptors

from isola.host import sealed_programs
from isola.host.system import LinuxSystem


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\necho {text}\n")
    path.chmod(0o755)
    return path


def said(program: Path) -> str:
    return subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout.strip()


def test_a_copy_runs_and_can_never_be_changed(tmp_path: Path) -> None:
    copy = sealed_programs.sealed(script(tmp_path / "program", "first"))
    assert said(copy) == "first"
    with pytest.raises(PermissionError):
        copy.write_bytes(b"#!/bin/sh\n")
    with pytest.raises(PermissionError):
        os.truncate(copy, 0)
    descriptor = os.open(copy, os.O_RDWR)
    try:
        with pytest.raises(PermissionError):
            os.write(descriptor, b"x")
        with pytest.raises(PermissionError):
            mmap.mmap(descriptor, 1, mmap.MAP_SHARED)
    finally:
        os.close(descriptor)
    assert said(copy) == "first"


def test_a_replaced_program_is_copied_again_and_few_copies_are_kept(tmp_path: Path) -> None:
    program = script(tmp_path / "program", "0")
    before = descriptors()
    copies = [sealed_programs.sealed(program)]
    assert sealed_programs.known(program) == copies[0]
    for number in range(1, 6):
        script(tmp_path / "new", str(number)).rename(program)
        assert sealed_programs.known(program) is None
        copies.append(sealed_programs.sealed(program))
        assert said(copies[-1]) == str(number)
        assert said(copies[-2]) == str(number - 1)  # a child may be about to execute it
    assert len({each for each in descriptors() - before if "memfd" in each[1]}) == 2


async def test_concurrent_calls_get_the_same_copy(tmp_path: Path) -> None:
    program = script(tmp_path / "program", "once")
    found = await asyncio.gather(*(LinuxSystem().sealed_program(str(program)) for _ in range(20)))
    assert len(set(found)) == 1


async def test_a_missing_program_has_no_copy(tmp_path: Path) -> None:
    assert await LinuxSystem().sealed_program("isola-no-such-program") is None
    assert sealed_programs.sealed(tmp_path / "none") == tmp_path / "none"


def test_an_engine_does_not_reexecute_itself() -> None:
    copy = sealed_programs.sealed(Path(shutil.which("crun") or "crun"))
    done = subprocess.run(
        ["strace", "-f", "-e", "trace=execve,execveat", str(copy), "--version"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "crun" in done.stdout
    assert done.stderr.count("execve") == 1
