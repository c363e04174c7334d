"""Tools that check the style: format, lint, types, import rules."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.prefix) / "bin"
CODE = ("src", "tests", "bench")

TOOLS = {
    "format": ("ruff", "format", "--check", "--no-cache", *CODE),
    "lint": ("ruff", "check", "--no-cache", *CODE),
    "types": ("mypy",),
    "imports": ("lint-imports", "--no-cache"),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_tool_reports_no_problems(tool: str) -> None:
    name, *arguments = TOOLS[tool]
    done = subprocess.run([BIN / name, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_banned_import_would_be_found() -> None:
    """The lint rule that restricts effects to host/ is enabled."""
    done = subprocess.run(
        [BIN / "ruff", "check", "--no-cache", "--stdin-filename", "src/isola/storage/drivers/new.py", "-"],
        cwd=ROOT, input="import subprocess\n\nprint(subprocess)\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "TID251" in done.stdout
