"""Debian's docker-registry on the loopback of a subject."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

from bench.shell import Trouble, run, run_detached, until

ADDRESS = "127.0.0.1:5001"


class Registry:
    """Without encryption, as clients allow on loopback; it ends with the subject's namespace at the latest."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "registry"
        self._content = self._directory / "content"
        self._content.mkdir(parents=True)
        settings = {
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": str(self._content)}},
            "http": {"addr": ADDRESS},
        }
        file = self._directory / "config.json"
        file.write_text(json.dumps(settings))
        self._process = run_detached(["docker-registry", "serve", str(file)], str(self._directory / "log"))
        for _ in until(30, 0.05):
            with suppress(Trouble):
                run(["curl", "-fs", f"http://{ADDRESS}/v2/"])
                break

    def fill(self, archive: Path, name: str) -> None:
        """An image from an archive of ``docker save``, its layers compressed by gzip."""
        run(["skopeo", "copy", "-q", "--dest-tls-verify=false", f"docker-archive:{archive}", f"docker://{name}"])

    def empty(self) -> None:
        """As if nothing had been pushed."""
        shutil.rmtree(self._content)
        self._content.mkdir()

    def close(self) -> None:
        """End it, and remove its content."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)
