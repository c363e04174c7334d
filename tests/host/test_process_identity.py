"""Reused PIDs: actions on the first process never affect the second one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "support" / "reuse.py"


def test_a_reused_pid_is_never_affected(tmp_path: Path) -> None:
    """The second process has the host's root directory, network and files, like a program of the host."""
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    secret.chmod(0o600)
    answer = subprocess.run(
        [
            *("unshare", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"),
            *(sys.executable, str(SCRIPT), str(secret), f"/isola-test-{uuid.uuid4().hex[:8]}"),
        ],
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert json.loads(answer.stdout) == {
        "secret": "wrong_state",
        "interfaces": [],
        "mounts": "wrong_state",
        "group": "wrong_state",
        "killed": False,
        "command_line": [],
        "second lives": True,
    }
