"""Docker from Debian (docker.io), with its own directories."""

from collections.abc import Sequence
from pathlib import Path

from bench.connection import Connection
from bench.containers import ContainerSubject
from bench.processes import named, parent
from bench.shell import run, run_detached, until

DOCKER = "/usr/bin/docker"


class Docker(ContainerSubject):
    """dockerd and its containerd."""

    title = "docker"
    command = (DOCKER,)
    # Writable for systemd; the other control groups stay read-only.
    for_systemd = (
        "--tmpfs", "/run", "--tmpfs", "/tmp", "--cap-add", "SYS_ADMIN", "-e", "container=docker",
        "-v", "/sys/fs/cgroup:/sys/fs/cgroup:ro", "-v", "/sys/fs/cgroup/systemd:/sys/fs/cgroup/systemd",
    )  # fmt: skip
    update = ("--memory-swap", "-1")

    @classmethod
    def control_groups(cls, directory: Path) -> Sequence[str]:
        """By name."""
        return ("docker",)

    def start(self) -> None:
        """Start dockerd on a bridge in the namespace, import the images."""
        self._socket = str(self.directory / "docker.sock")
        self.environment = {"DOCKER_HOST": f"unix://{self._socket}", "DOCKER_CONFIG": str(self.directory / "client")}
        run_detached(
            ["dockerd", "--data-root", str(self.directory / "data"), "--exec-root", str(self.directory / "exec"),
             "--pidfile", str(self.directory / "docker.pid"), "-H", f"unix://{self._socket}", "--bip", "10.201.0.1/24",
             "--oom-score-adjust", "0", "--default-ulimit", "nofile=4096:4096"],
            str(self.directory / "dockerd.log"),
        )  # fmt: skip
        for _ in until(30, 0.05):
            if (self.directory / "docker.sock").exists():
                break
        self.import_images()
        self._connection = Connection(self._socket)

    def stop(self) -> None:
        """Stop it cleanly, so that it removes its mounts."""
        for pid in named("dockerd"):
            run(["kill", str(pid)])
        for _ in until(30, 0.05):
            if not named("dockerd"):
                return

    def version(self) -> str:
        """As it says itself."""
        return "docker " + self.run(DOCKER, "version", "-f", "{{.Server.Version}}").strip()

    def api_noop(self) -> None:
        """The smallest request there is."""
        self._connection.get("/_ping")

    def api_list(self) -> None:
        """All containers."""
        self._connection.get("/containers/json?all=1")

    def docker_argv(self, *arguments: str) -> list[str]:
        """By the same client as Isola's door is driven, whose own time is in all figures."""
        return ["docker", *arguments]

    def monitors(self, name: str) -> list[int]:
        """Its shim."""
        return [parent(int(self.run(DOCKER, "inspect", "-f", "{{.State.Pid}}", name)))]

    def daemons(self) -> list[int]:
        """dockerd and containerd."""
        return named("dockerd", "containerd")


SUBJECT = Docker
