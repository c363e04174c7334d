"""Plain runsc: the minimal cost of a sandbox, without an image store, a network or a daemon."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from bench.mounts import Roots
from bench.shell import run
from bench.subject import Subject

_OPTIONS = ("--network=none", "--ignore-cgroups", "--platform=ptrace", "--file-access=shared")


class Runsc(Subject):
    """Bundles are prepared beforehand; only runsc itself is measured."""

    title = "runsc"

    @classmethod
    def control_groups(cls, directory: Path) -> Sequence[str]:
        """It makes none."""
        return ()

    def start(self) -> None:
        """Unpack the images."""
        self._roots = Roots(self.directory, self.images)
        self._engine = ["runsc", "--root", str(self.directory / "state"), *_OPTIONS]

    def version(self) -> str:
        """As it says itself."""
        return run(["runsc", "--version"]).splitlines()[0]

    def make_wall(self, wall: str, name: str) -> None:
        """A bundle."""
        bundle = self.directory / name
        bundle.mkdir()
        run(["runc", "spec", "-b", str(bundle)])
        config = json.loads((bundle / "config.json").read_text())
        config["root"] = {"path": str(self._roots.make("tiny", name)), "readonly": False}
        config["process"] |= {"args": ["/bin/busybox", "sleep", "1000000"], "terminal": False, "rlimits": []}
        config["mounts"] = [each for each in config["mounts"] if each["type"] in ("proc", "tmpfs")]
        (bundle / "config.json").write_text(json.dumps(config))

    def start_sandbox(self, name: str) -> None:
        """Create and start."""
        if not (self.directory / name).exists():
            self.make_wall("sandbox", name)
        argv = " ".join([*self._engine, "run", "-detach", "-bundle", str(self.directory / name), name])
        run(["sh", "-c", f"{argv} </dev/null >/dev/null 2>&1"])

    def inside(self, name: str, *argv: str) -> str:
        """By its command line."""
        return run([*self._engine, "exec", name, *argv])

    def end_wall(self, name: str) -> None:
        """With its root."""
        run([*self._engine, "delete", "-force", name], ok=(0, 1, 128))
        if (self.directory / name).exists():
            self._roots.drop(name)
            shutil.rmtree(self.directory / name)

    def writes_to_disk(self) -> None:
        """Its root is that of others."""


SUBJECT = Runsc
