"""Options of ``ps`` that are known to ask for no other processes."""

from __future__ import annotations

import os
import subprocess

import pytest

from isola.instances.ps_options import without_choice


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("-ef --sort=-pid", "-f --sort=-pid"),
        ("aux --sort -rss,+pid", "u --sort=-rss,+pid"),
        ("axf", "f"),
        ("ax k pid", "--sort=pid"),
        ("-eo pid,comm --sort=comm", None),
        ("-e -o pid,comm --sort=comm", "-o pid,comm --sort=comm"),
        ("-ef --forest", "-f --forest"),
        ("-eH", None),
        ("-e -H", "-H"),
        ("", ""),
    ],
)
def test_options_that_show_and_sort_are_kept(given: str, kept: str | None) -> None:
    found = without_choice(given.split())
    assert found == (None if kept is None else tuple(kept.split()))


@pytest.mark.parametrize(
    "given",
    [
        "-o args=PID", "-o comm=PID,pid", "-o pid,args=PID --sort=pid", "-O pid", "-p1 --sort=pid", "-p 1", "p1",
        "1", "-u root", "U root", "-C sh", "-N", "--deselect", "-Z", "-M", "h", "--no-headers", "--headers", "r", "T",
        "--sort", "-o", "--sort=pid=x", "g", "--pid=1", "-ef --cols=9", "-Lq1", "-aux", "аux", "k", "--sort=рid",
    ],
)  # fmt: skip
def test_others_are_not(given: str) -> None:
    assert without_choice(given.split()) is None


@pytest.mark.parametrize("given", ["aux --sort -pid", "-ef --forest", "axf", "-e -o pid,args --sort=pid"])
def test_ps_of_this_machine_takes_them_together_with_processes(given: str) -> None:
    kept = without_choice(given.split())
    assert kept is not None
    done = subprocess.run(["ps", *kept, f"-p{os.getpid()}"], capture_output=True, text=True, check=True)
    titles, *rows = done.stdout.splitlines()
    assert "PID" in titles.split() and len(rows) == 1 and str(os.getpid()) in rows[0]
