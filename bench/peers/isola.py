"""Isola, with its own directory."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from bench.dockerlike import DockerLike
from bench.processes import processes
from bench.program import command
from bench.shell import Trouble, run, together, until
from bench.walls import Walls
from isola.model.identity import HostNames

DOCKER = "docker"
ISOLA = command("isola")
ISOLAD = command("isolad")


class Isola(Walls, DockerLike):
    """isolad and its command line; ``program.py`` selects which."""

    title = "isola"

    @classmethod
    def control_groups(cls, directory: Path) -> Sequence[str]:
        """By name."""
        return (HostNames.of_directory(str((directory / "isola").resolve())).tag,)

    def start(self) -> None:
        """Start it, import the images."""
        self._place = str(self.directory / "isola")
        client = {"DOCKER_HOST": f"unix://{self._place}/docker.sock", "DOCKER_CONFIG": str(self.directory / "client")}
        self.environment = {"ISOLA_DIR": self._place, **client}
        run([ISOLAD, "--dir", self._place, "--background"])
        for _ in until(30, 0.05):
            if self._answers():
                break
        for image in ("debian", "tiny"):
            files = (str(self.images.metadata_of(image)), str(self.images.rootfs(image)))
            self.run(ISOLA, "image", "import", *files, "--alias", image)
        if shutil.which(DOCKER):
            self.import_container_image()
        self.connect(self._place)

    def docker_argv(self, *arguments: str) -> list[str]:
        """docker's own client."""
        return [DOCKER, *arguments]

    def stop(self) -> None:
        """Instances, networks and the daemon."""
        run([ISOLAD, "--dir", self._place, "--stop", "--instances"])

    def version(self) -> str:
        """Its version and the engine that its probe has chosen, on which the figures depend."""
        self.launch("tiny", "bench-engine")
        engine = json.loads(self.connection.get("/1.0/instances/bench-engine"))["metadata"]["runtime"]
        self.delete("bench-engine")
        return f"isola {self.run(ISOLA, 'version').split()[-1]} on {engine}"

    def create(self, image: str, name: str) -> None:
        """Not started."""
        self.run(ISOLA, "create", image, name)

    def start_instance(self, name: str) -> None:
        """What was created."""
        self.run(ISOLA, "start", name)

    def start_many(self, names: list[str]) -> None:
        """All at once, one command each."""
        together([[ISOLA, "start", name] for name in names], env=self.environment)

    def launch(self, image: str, name: str) -> None:
        """Create and start."""
        self.run(ISOLA, "launch", image, name)

    def start_tiny(self, name: str) -> None:
        """A tiny container that waits."""
        self.launch("tiny", name)

    def start_tiny_on_runc(self, name: str) -> None:
        """The engine is named, not chosen by the probe."""
        self.run(ISOLA, "launch", "tiny", name, "--runtime", "runc")

    def run_true(self) -> None:
        """And removed."""
        self.run(ISOLA, "run", "tiny", "--", "/bin/true")

    def kill(self, name: str) -> None:
        """At once."""
        self.run(ISOLA, "stop", "--force", name)

    def delete(self, name: str) -> None:
        """Also when it runs."""
        self.run(ISOLA, "delete", "--force", name)

    def delete_many(self, names: list[str]) -> None:
        """In one command."""
        self.run(ISOLA, "delete", "--force", *names)

    def exec_true(self, name: str) -> None:
        """Not interactive."""
        self.run(ISOLA, "exec", name, "--", "/bin/true")

    def pause(self, name: str) -> None:
        """Freeze."""
        self.run(ISOLA, "pause", name)

    def resume(self, name: str) -> None:
        """Thaw."""
        self.run(ISOLA, "resume", name)

    def limit_memory(self, name: str, mib: int) -> None:
        """Live."""
        self.run(ISOLA, "config", "set", name, f"limits.memory={mib}MiB")

    def push(self, name: str, file: Path) -> None:
        """Into /root."""
        self.run(ISOLA, "file", "push", str(file), f"{name}/root/megabyte")

    def pull(self, name: str, file: Path) -> None:
        """Out of /root."""
        self.run(ISOLA, "file", "pull", f"{name}/root/megabyte", f"{file}.back")

    def list_all(self) -> None:
        """With its usual columns."""
        self.run(ISOLA, "list")

    def list_projects(self) -> None:
        """Of every project."""
        self.run(ISOLA, "list", "--all-projects")

    def lxd_benchmark(self, *arguments: str) -> str:
        """LXD's own benchmark, unmodified; returns its output."""
        environment = {"LXD_DIR": self._place, "LXD_CONF": str(self.directory / "lxd")}
        return run(["lxd-benchmark", *arguments], env=environment)

    def noop(self) -> None:
        """Its version, and the daemon's."""
        self.run(ISOLA, "version")

    def monitors(self, name: str) -> list[int]:
        """Its conmon."""
        found = [pid for pid, comm, _ in processes() if comm == "conmon"]
        return found[:1]

    def daemons(self) -> list[int]:
        """The daemon and its supervisor."""
        return [pid for pid, _, argv in processes() if "/bin/isolad" in argv]

    def _answers(self) -> bool:
        try:
            self.noop()
        except Trouble:
            return False
        return True


SUBJECT = Isola
