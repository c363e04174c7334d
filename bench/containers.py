"""Common base of docker and podman: their command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from bench.dockerlike import DockerLike
from bench.shell import together


class ContainerSubject(DockerLike):
    """Verbs over a command line that follows docker's."""

    command: ClassVar[Sequence[str]]
    for_systemd: ClassVar[Sequence[str]]
    """Options of a container that runs systemd."""
    update: ClassVar[Sequence[str]] = ()
    """Options that must come with a new memory limit."""

    def cli(self, *arguments: str) -> str:
        """Its command line."""
        return self.run(*self.command, *arguments)

    def docker_argv(self, *arguments: str) -> list[str]:
        """The same command line."""
        return [*self.command, *arguments]

    def import_images(self) -> None:
        """Both images, with the command they run."""
        for image in ("debian", "tiny"):
            self.cli("import", "--change", 'CMD ["/sbin/init"]', str(self.images.rootfs(image)), f"bench/{image}")

    def create(self, image: str, name: str) -> None:
        """Not started."""
        self.cli("create", "--name", name, *self._options(image), f"bench/{image}")

    def start_instance(self, name: str) -> None:
        """What was created."""
        self.cli("start", name)

    def start_many(self, names: list[str]) -> None:
        """All at once, one command each."""
        together([[*self.command, "start", name] for name in names], env=self.environment)

    def launch(self, image: str, name: str) -> None:
        """In the background."""
        self.cli("run", "-d", "--name", name, *self._options(image), f"bench/{image}")

    def start_tiny(self, name: str) -> None:
        """A tiny container that waits."""
        self.launch("tiny", name)

    def run_true(self) -> None:
        """And removed."""
        self.cli("run", "--rm", "bench/tiny", "/bin/true")

    def kill(self, name: str) -> None:
        """At once."""
        self.cli("kill", name)

    def delete(self, name: str) -> None:
        """Also when it runs."""
        self.cli("rm", "-f", name)

    def delete_many(self, names: list[str]) -> None:
        """In one command."""
        self.cli("rm", "-f", *names)

    def exec_true(self, name: str) -> None:
        """Not interactive."""
        self.cli("exec", name, "/bin/true")

    def pause(self, name: str) -> None:
        """Freeze."""
        self.cli("pause", name)

    def resume(self, name: str) -> None:
        """Thaw."""
        self.cli("unpause", name)

    def limit_memory(self, name: str, mib: int) -> None:
        """Live."""
        self.cli("update", "--memory", f"{mib}m", *self.update, name)

    def push(self, name: str, file: Path) -> None:
        """Into /root."""
        self.cli("cp", str(file), f"{name}:/root/megabyte")

    def pull(self, name: str, file: Path) -> None:
        """Out of /root."""
        self.cli("cp", f"{name}:/root/megabyte", f"{file}.back")

    def list_all(self) -> None:
        """Running or not."""
        self.cli("ps", "-a")

    def noop(self) -> None:
        """Its version."""
        self.cli("version")

    def _options(self, image: str) -> Sequence[str]:
        return self.for_systemd if image == "debian" else ()
