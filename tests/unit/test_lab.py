"""The lab: its steps are functions with a limit and a row in its page; a run is bounded, resumed, and cleans up."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
SCRIPT = TREE / "lab/run"
STEPS = """
plan='
image 20
machine 20
first 20
slow 2
last 20
'
packages() { cat "$LAB/wanted" 2>/dev/null || echo some; }
image() { echo built; }
machine() { echo made; }
first() { echo first >>"$LAB/order"; }
slow() { [ -e "$LAB/quick" ] || sleep 55; }
last() { echo last >>"$LAB/order"; [ ! -e "$LAB/hang" ] || sleep 56; }
"""
CALLED = '#!/bin/sh\necho "${0##*/} $*" >>"$LAB/calls"\n'


def listed() -> list[str]:
    done = subprocess.run([SCRIPT, "--list"], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.split()


def test_each_step_is_written_and_described() -> None:
    page = (TREE / "docs/how-to/lab.md").read_text().partition("## Steps")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert [name.strip(" `") for row in rows for name in row.split(",")] == listed()
    lines = (TREE / "lab/steps").read_text().splitlines()
    assert set(listed()) <= {line.removesuffix("() {") for line in lines if line.endswith("() {")}


@pytest.mark.parametrize("script", ["run", "world", "steps"])
def test_scripts_can_be_parsed(script: str) -> None:
    subprocess.run(["sh", "-n", TREE / "lab" / script], check=True, timeout=120)


def test_a_stop_is_judged_by_its_own_messages() -> None:
    """In the same boot the unit was killed, by a step that is about that."""
    start, kill = "systemd[1]: Started isola.service - Isola", "systemd[1]: isola.service: Failed with result 'signal'."
    stop, end = "systemd[1]: Stopping isola.service - Isola...", "systemd[1]: isola.service: Deactivated successfully."
    said = "\n".join((start, stop, end, start, kill, start, stop, "isolad[7]: Stopping on signal 15", end, ""))
    script = f'. "{TREE}/lab/steps"; last_stop'
    done = subprocess.run(["sh", "-c", script], input=said, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.splitlines() == [stop, "isolad[7]: Stopping on signal 15", end]


class Lab:
    """A checkout with short steps, and programs that only note that they were called."""

    def __init__(self, place: Path) -> None:
        self.directory = place / "state"
        self.directory.mkdir()
        self._script = place / "checkout/lab/run"
        (place / "checkout/.venv/bin").mkdir(parents=True)
        (place / "tools").mkdir()
        self._script.parent.mkdir()
        shutil.copy(SCRIPT, self._script)
        (self._script.parent / "steps").write_text(STEPS)
        programs = {
            "checkout/lab/world": CALLED,
            "checkout/.venv/bin/isola": CALLED + "case $3 in list) echo Running ;; exec) echo running ;; esac\n",
            "tools/id": "#!/bin/sh\necho 0\n",
            "tools/git": "#!/bin/sh\necho abc\n",
        }
        for name, text in programs.items():
            (place / name).write_text(text)
            (place / name).chmod(0o755)
        self._environment = os.environ | {"LAB": str(self.directory), "PATH": f"{place}/tools:{os.environ['PATH']}"}

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self._script, *arguments],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        with self.begin(*arguments) as process:
            said, _ = process.communicate(timeout=60)
        return process.returncode, said

    def outcomes(self) -> dict[str, str]:
        """Of the last run."""
        table = (self.directory / "result.md").read_text().rpartition("| --- | --- | --- |")[2].splitlines()[1:]
        return {line.split("|")[1].strip(): line.split("|")[3].strip() for line in table}

    def calls(self) -> list[str]:
        return (self.directory / "calls").read_text().splitlines()

    def file(self, name: str) -> Path:
        return self.directory / name


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_a_step_that_is_not_there_is_refused(lab: Lab) -> None:
    status, said = lab.run("--only", "nothing")
    assert status == 2 and "There is no step 'nothing': image machine first slow last" in said
    assert not lab.file("calls").exists()


def test_a_run_goes_past_a_step_without_end_and_is_resumed(lab: Lab) -> None:
    began = time.monotonic()
    assert lab.run()[0] == 1
    assert time.monotonic() - began < 120
    assert lab.outcomes() == {
        "image": "works",
        "machine": "works",
        "first": "works",
        "slow": "FAILED: not ended in time, see slow.log",
        "last": "works",
    }
    assert "--- The machine then:" in lab.file("slow.log").read_text()
    assert lab.calls()[-1] == "world stop"
    lab.file("quick").touch()
    assert lab.run()[0] == 0
    assert lab.outcomes()["slow"] == "works"
    assert lab.outcomes()["first"] == lab.outcomes()["last"] == "works, as before at abc"
    assert lab.file("order").read_text().split() == ["first", "last"]
    assert (
        sum("delete --force lab" in call for call in lab.calls()) == 1
    )  # all has been shown: the next run is a new one
    assert lab.run()[0] == 0
    assert lab.outcomes().pop("image") == "works, as before at abc"
    assert lab.file("order").read_text().split() == ["first", "last"] * 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_leaves_nothing_that_runs(lab: Lab, number: int) -> None:
    for name in ("quick", "hang"):
        lab.file(name).touch()
    with lab.begin() as process:
        for _ in range(1200):
            if lab.file("order").exists() and "last" in lab.file("order").read_text():
                break
            time.sleep(0.1)
        os.kill(process.pid, number)
        process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert lab.outcomes()["last"] == "interrupted" and lab.outcomes()["slow"] == "works"
    left = subprocess.run(
        ["ps", "-o", "stat,args", "-s", str(process.pid), "--no-headers"], capture_output=True, text=True, check=False
    )
    assert [line for line in left.stdout.splitlines() if line[0] != "Z"] == []
    assert any(" stop lab " in call for call in lab.calls()) and lab.calls()[-1] == "world stop"


def test_a_run_interrupted_in_its_first_step_has_a_table_too(lab: Lab) -> None:
    with lab.begin("--only", "slow") as process:
        while not lab.file("slow.log").exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    assert process.returncode == 130 and lab.outcomes() == {"slow": "interrupted"}


def test_steps_are_repeated(lab: Lab) -> None:
    lab.file("quick").touch()
    (lab.directory / "done").mkdir()
    for name in ("image", "machine", "first", "slow"):
        (lab.directory / "done" / name).write_text("5 old\n")
    lab.file("packages").write_text("some\n")
    assert lab.run("--only", "first")[0] == 0
    assert lab.outcomes() == {"first": "works"}
    assert lab.run("--again", "slow")[0] == 0
    assert lab.outcomes()["machine"] == "works, as before at old" and lab.outcomes()["slow"] == "works"


def test_other_packages_are_another_machine_in_which_nothing_was_tried(lab: Lab) -> None:
    assert lab.run()[0] == 1
    lab.file("wanted").write_text("some,more\n")
    lab.file("quick").touch()
    assert lab.run("--only", "first")[0] == 0, "in the machine that is there"
    assert lab.run()[0] == 0
    assert set(lab.outcomes().values()) == {"works"}
    assert lab.file("order").read_text().split() == ["first", "last", "first", "first", "last"]


def test_two_runs_do_not_share_a_directory(lab: Lab) -> None:
    lab.file("quick").touch()
    lab.file("hang").touch()
    with lab.begin() as process:
        for _ in range(1200):
            if lab.file("order").exists():
                break
            time.sleep(0.1)
        status, said = lab.run()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert status == 1 and "Another lab runs" in said
