"""Verbs of docker's command line, which several subjects understand: docker, podman, and Isola's Docker door."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from bench.shell import run
from bench.subject import Subject

IMAGE = "bench/tiny"
POLITE = ("/bin/sh", "-c", "trap exit TERM; while :; do sleep 1000 & wait $!; done")
"""Ends when it is asked to."""


class DockerLike(Subject):
    """All verbs work on containers of the tiny image."""

    without_tls: ClassVar[Sequence[str]] = ()
    """Options for a registry on loopback."""

    def import_container_image(self) -> None:
        """The tiny root file system as an image for one program."""
        self.docker("import", "--change", 'CMD ["/sbin/init"]', str(self.images.rootfs("tiny")), IMAGE)

    def container_run(self) -> None:
        """``true`` on a bridge, and removed."""
        self.docker("run", "--rm", IMAGE, "/bin/true")

    def container_create(self, name: str) -> None:
        """Not started."""
        self.docker("create", "--name", name, IMAGE, *POLITE)

    def container_launch(self, name: str) -> None:
        """In the background."""
        self.docker("run", "-d", "--name", name, IMAGE, *POLITE)

    def container_publish(self, name: str, port: int) -> None:
        """In the background, with a published port."""
        self.docker("run", "-d", "--name", name, "-p", f"{port}:80", IMAGE, *POLITE)

    def container_start(self, name: str) -> None:
        """What was created."""
        self.docker("start", name)

    def container_stop(self, name: str) -> None:
        """It is asked to end."""
        self.docker("stop", name)

    def container_remove(self, *names: str) -> None:
        """Also running ones."""
        self.docker("rm", "-f", *names)

    def image_load(self, archive: Path, image: str, name: str) -> None:
        """An archive, and the first container of its image: then all layers are unpacked everywhere."""
        self.docker("load", "-q", "-i", str(archive))
        self.docker("create", "--name", name, image)

    def image_tag(self, image: str, name: str) -> None:
        """Another name."""
        self.docker("tag", image, name)

    def image_push(self, image: str) -> None:
        """To the registry in its name."""
        self.docker("push", *self.without_tls, "-q", image)

    def image_pull(self, image: str, name: str) -> None:
        """From the registry in its name, and the first container."""
        self.docker("pull", *self.without_tls, "-q", image)
        self.docker("create", "--name", name, image)

    def image_remove(self, image: str) -> None:
        """With its layers."""
        self.docker("rmi", "-f", image)

    def image_build(self, context: Path, image: str, *, cached: bool) -> None:
        """By the classic builder where the command has another one too."""
        self.docker("build", "-q", *([] if cached else ["--no-cache"]), "-t", image, str(context))

    def container_list(self) -> None:
        """Running or not."""
        self.docker("ps", "-a")

    def container_write(self, name: str, mebibytes: int) -> None:
        """A container that writes lines to its log, and ends."""
        lines = mebibytes * (1 << 20) // 100
        work = f"yes {'x' * 99} | head -n {lines}"
        self.docker("run", "-d", "--name", name, IMAGE, "/bin/sh", "-c", work)
        self.docker("wait", name)

    def container_logs(self, name: str) -> None:
        """All of them."""
        run(["sh", "-c", '"$@" >/dev/null 2>&1', "sh", *self.docker_argv("logs", name)], env=self.environment)

    def container_serve(self, name: str, port: int) -> None:
        """It reads all that is sent to a port of the host."""
        sink = ("nc", "-ll", "-p", "80", "-e", "/bin/sh", "-c", "exec dd bs=1048576 of=/dev/null")
        self.docker("run", "-d", "--name", name, "-p", f"{port}:80", IMAGE, *sink)

    def container_address(self, name: str) -> str:
        """On the bridge."""
        return self.docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name).strip()

    @abstractmethod
    def docker_argv(self, *arguments: str) -> list[str]:
        """A command of docker's command line."""

    def docker(self, *arguments: str) -> str:
        """Run one."""
        return self.run(*self.docker_argv(*arguments))
