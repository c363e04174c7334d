"""Standard streams that are closed, or fail on writing."""

import subprocess
import sys

import pytest

ISOLA = f"{sys.executable} -m isola.cli.main"


def shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", f"exec {ISOLA} {line}"], capture_output=True, text=True, timeout=60, check=False)


def test_closed_standard_error_changes_nothing_for_a_success() -> None:
    done = shell("version --client 2>&-")
    assert (done.returncode, done.stdout) == (0, shell("version --client").stdout)


def test_closed_standard_error_leaves_the_status_of_a_failure() -> None:
    assert shell("no-such-command 2>&-").returncode == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("version --client >&-", "Bad file descriptor"),
        ("version --client >/dev/full", "No space left on device"),
        ("help list >/dev/full", "No space left on device"),
        ("help list >&-", "Bad file descriptor"),
    ],
)
def test_unwritable_output_is_an_error_with_its_reason(line: str, reason: str) -> None:
    done = shell(line)
    assert (done.returncode, done.stderr) == (1, f"Error: Standard output: {reason}\n")


def test_unwritable_error_messages_are_ignored() -> None:
    assert shell("no-such-command 2>/dev/full").returncode == 2
    assert shell("version --client 2>/dev/full").returncode == 0


def test_output_to_a_closed_pipe_ends_silently() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{ISOLA} help list | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.stdout in ("141\n", "0\n"), done.stderr) == (True, "")


def test_closed_input_is_at_eof() -> None:
    done = shell("profile edit default <&- --dir /nonexistent")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_the_version_without_a_daemon() -> None:
    done = shell("--version --dir /nonexistent")
    assert (done.returncode, done.stdout) == (0, f"isola {shell('version --client').stdout}")
