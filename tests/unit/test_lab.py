"""The steps of the lab: each is a function of its script, and has a row in its page."""

import subprocess
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
SCRIPT = TREE / "lab/run"


def listed() -> list[str]:
    done = subprocess.run([SCRIPT, "--list"], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.split()


def test_each_step_is_written_and_described() -> None:
    page = (TREE / "docs/how-to/lab.md").read_text().partition("## Steps")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert [name.strip(" `") for row in rows for name in row.split(",")] == listed()
    functions = [line.removesuffix("() {") for line in SCRIPT.read_text().splitlines() if line.endswith("() {")]
    assert set(listed()) <= set(functions)


@pytest.mark.parametrize("script", ["run", "world"])
def test_scripts_can_be_parsed(script: str) -> None:
    subprocess.run(["sh", "-n", TREE / "lab" / script], check=True, timeout=30)


def test_a_step_that_is_not_there_is_refused(tmp_path: Path) -> None:
    argv = ["env", f"LAB={tmp_path}", str(SCRIPT), "--only", "nothing"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode in (1, 2) and not list(tmp_path.glob("*/isola"))
    assert "There is no step 'nothing'" in done.stderr or "sudo" in done.stderr
