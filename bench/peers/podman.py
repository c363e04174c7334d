"""Podman from Debian, as root, with its own directories."""

from collections.abc import Sequence
from pathlib import Path

from bench.containers import ContainerSubject
from bench.processes import processes

SETTINGS = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=32768:32768"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "cni"
cni_plugin_dirs = ["/usr/lib/cni"]
network_config_dir = "{directory}/networks"
"""


class Podman(ContainerSubject):
    """No daemon; every command is a process."""

    title = "podman"
    for_systemd = ("--systemd=always",)
    without_tls = ("--tls-verify=false",)

    @classmethod
    def control_groups(cls, directory: Path) -> Sequence[str]:
        """By name."""
        return ("libpod_parent",)

    def start(self) -> None:
        """Write its settings, import the images."""
        (self.directory / "networks").mkdir()
        settings = self.directory / "containers.conf"
        settings.write_text(SETTINGS.format(directory=self.directory))
        self.environment = {"CONTAINERS_CONF": str(settings)}
        self.import_images()

    def cli(self, *arguments: str) -> str:
        """With directories of its own."""
        return self.run(*self.command, *arguments)

    @property
    def command(self) -> tuple[str, ...]:  # type: ignore[override]
        """Its command line, which carries the directories."""
        place = str(self.directory)
        return (
            "podman", "--root", f"{place}/root", "--runroot", f"{place}/run", "--tmpdir", f"{place}/tmp",
            "--storage-driver", "overlay",
        )  # fmt: skip

    def stop(self) -> None:
        """Remove all containers, so that their mounts are removed."""
        self.cli("rm", "-a", "-f")

    def version(self) -> str:
        """As it says itself."""
        return self.run("podman", "--version").strip()

    def monitors(self, name: str) -> list[int]:
        """Its conmon."""
        return [pid for pid, comm, argv in processes() if comm == "conmon" and f" -n {name} " in argv]


SUBJECT = Podman
