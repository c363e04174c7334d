"""One real daemon with a Debian 12 image for all end-to-end tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import Daemon
from debian import debian_image

from isola.testing.images import tiny_image


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with the images ``tiny`` and ``debian/12``."""
    daemon = Daemon()
    try:
        daemon.start()
        daemon.import_image(Path(tiny_image(tmp_path_factory.mktemp("image"))), "tiny")
        yield daemon
    finally:
        daemon.close()


@pytest.fixture(scope="session")
def debian(daemon: Daemon) -> Daemon:
    """The daemon with a Debian 12 image too."""
    daemon.import_split(*debian_image(), "debian/12")
    return daemon


class Cli:
    """The ``isola`` command against a daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.argv = [sys.executable, "-m", "isola.cli.main"]
        self.env = os.environ | {"ISOLA_DIR": str(daemon.directory), "NO_COLOR": "1", "TERM": "xterm"}

    def __call__(self, *words: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run it; fails the test on a bad end unless ``check`` is off."""
        options = {"capture_output": True, "text": True, "timeout": 120, "stdin": subprocess.DEVNULL} | options
        if "input" in options:
            options.pop("stdin")
        done = subprocess.run([*self.argv, *words], env=self.env, check=False, **options)
        if check:
            assert done.returncode == 0, f"isola {' '.join(words)}: {done.stderr or done.stdout}"
        return done


@pytest.fixture
def isola(daemon: Daemon) -> Cli:
    """The ``isola`` command."""
    return Cli(daemon)


@pytest.fixture
def instance(daemon: Daemon) -> Iterator[str]:
    """A running tiny instance of the test's own."""
    name = f"t{time.monotonic_ns() % 10**9}"
    daemon.launch(name)
    yield name
    if name in {path.rpartition("/")[2] for path in daemon.get("/1.0/instances")}:
        daemon.run("DELETE", f"/1.0/instances/{name}?force=1")
