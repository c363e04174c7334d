"""Messages of the daemon, in a file and in the journal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

WRITE = """
import logging, sys
from isola.daemon.log_lines import log_lines
lines = logging.StreamHandler()
lines.setFormatter(log_lines())
logging.basicConfig(level=logging.DEBUG, handlers=[lines])
log = logging.getLogger("isola.test")
log.info("one")
log.warning("two\\nthree")
log.debug("four")
log.info("of a guest: %s", "a\\n<2>b\\r\\x1b[2J\\x9b1m\\u202e\\udcff\u00e9")
try:
    raise ValueError("five")
except ValueError:
    log.exception("six")
"""


def written(file: Path, journal: str) -> list[str]:
    with file.open("w") as output:
        environment = os.environ | {"JOURNAL_STREAM": journal, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", WRITE], stderr=output, env=environment, check=True, timeout=60)
    return file.read_text().splitlines()


def test_the_journal_gets_priorities_and_no_time(tmp_path: Path) -> None:
    file = tmp_path / "stream"
    file.touch()
    status = file.stat()
    lines = written(file, f"{status.st_dev}:{status.st_ino}")
    assert lines[:4] == ["<6>isola.test: one", "<4>isola.test: two", "<4>    three", "<7>isola.test: four"]
    assert lines[4] == "<6>isola.test: of a guest: a"
    assert lines[5] == "<6>    <2>b\\r\\x1b[2J\\x9b1m\\u202e\\udcff\u00e9"
    assert lines[6] == "<3>isola.test: six" and lines[-1] == "<3>    ValueError: five"
    assert all(line.startswith("<3>    ") for line in lines[7:])


def test_a_file_gets_the_time_also_below_a_service(tmp_path: Path) -> None:
    """The variable is that of the service: the output leads elsewhere."""
    lines = written(tmp_path / "file", "8:1")
    assert lines[0][:4].isdigit() and lines[0].endswith(" INFO isola.test: one")
    assert [line for line in lines if not line[:1].isdigit() and not line.startswith("    ")] == []
