"""Plain runc: the minimal cost of a container, without an image store, a network or a daemon."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from bench.mounts import Roots
from bench.shell import run
from bench.subject import Subject


class Runc(Subject):
    """Bundles are prepared beforehand; only runc itself is measured."""

    title = "runc"

    @classmethod
    def control_groups(cls, directory: Path) -> Sequence[str]:
        """By name."""
        return ("bench-runc-run", "bench-runc-wait", "bench-runc-bench-wall*")

    def start(self) -> None:
        """Write one bundle that runs ``true`` and one that waits."""
        self._roots = Roots(self.directory, self.images)
        for name, arguments in (("run", ["/bin/true"]), ("wait", ["/bin/sleep", "1000000"])):
            self._bundle(name, arguments)

    def _bundle(self, name: str, arguments: list[str]) -> None:
        bundle = self.directory / name
        bundle.mkdir()
        run(["runc", "spec", "-b", str(bundle)])
        config = json.loads((bundle / "config.json").read_text())
        config["root"] = {"path": str(self._roots.make("tiny", name)), "readonly": False}
        config["process"] |= {"args": arguments, "terminal": False, "rlimits": []}
        config["linux"]["cgroupsPath"] = f"/bench-runc-{name}"
        (bundle / "config.json").write_text(json.dumps(config))

    def make_wall(self, wall: str, name: str) -> None:
        """A bundle of its own."""
        self._bundle(name, ["/bin/busybox", "sleep", "1000000"])

    def start_container(self, name: str) -> None:
        """Create and start."""
        if not (self.directory / name).exists():
            self.make_wall("container", name)
        run(["sh", "-c", f"runc run -d -b {self.directory / name} {name} </dev/null >/dev/null 2>&1"])

    def inside(self, name: str, *argv: str) -> str:
        """By its command line."""
        return run(["runc", "exec", name, *argv])

    def end_wall(self, name: str) -> None:
        """With its root."""
        run(["runc", "delete", "--force", name])
        if (self.directory / name).exists():
            self._roots.drop(name)
            shutil.rmtree(self.directory / name)

    def writes_to_disk(self) -> None:
        """Its root is that of others."""

    def stop(self) -> None:
        """Nothing is left."""
        for name in ("run", "wait"):
            self._roots.drop(name)
            shutil.rmtree(self.directory / name)

    def version(self) -> str:
        """As it says itself."""
        return run(["runc", "--version"]).splitlines()[0]

    def run_true(self) -> None:
        """Create a container, run ``true``, and delete it."""
        run(["runc", "run", "-b", str(self.directory / "run"), "bench-run"])

    def start_tiny(self, name: str) -> None:
        """A container that waits, under a name; its bundle is shared, so there is only ever one."""
        run(["sh", "-c", f"runc run -d -b {self.directory / 'wait'} {name} </dev/null >/dev/null 2>&1"])

    def start_tiny_on_runc(self, name: str) -> None:
        """There is no other engine here."""
        self.start_tiny(name)

    def delete(self, name: str) -> None:
        """Kill and forget."""
        run(["runc", "delete", "--force", name])

    def exec_true(self, name: str) -> None:
        """By its command line."""
        run(["runc", "exec", name, "/bin/true"])

    def api_exec_true(self, name: str) -> None:
        """By its command line, because it has no API."""
        self.exec_true(name)

    def pause(self, name: str) -> None:
        """Freeze."""
        run(["runc", "pause", name])

    def resume(self, name: str) -> None:
        """Thaw."""
        run(["runc", "resume", name])


SUBJECT = Runc
