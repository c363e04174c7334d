"""Incus 6.0 with a btrfs pool, as its own documentation sets it up."""

from collections.abc import Sequence
from pathlib import Path

from bench.lxdlike import LxdLike
from bench.processes import named, processes
from bench.shell import run, run_detached, together, until

INCUSD = "/usr/libexec/incus/incusd"
PRESEED = """\
networks:
- name: incusbr0
  type: bridge
  config: {ipv4.address: 10.204.0.1/22, ipv4.nat: "true", ipv6.address: none}
storage_pools:
- name: default
  driver: btrfs
  config: {size: 12GiB}
profiles:
- name: default
  devices:
    root: {path: /, pool: default, type: disk}
    eth0: {name: eth0, network: incusbr0, type: nic}
"""


class Incus(LxdLike):
    """incusd in the foreground; the client of the same version."""

    title = "incus (btrfs)"

    @classmethod
    def control_groups(cls, directory: Path) -> Sequence[str]:
        """By name."""
        return ("lxc.payload.bench-*", "lxc.monitor.bench-*", "lxc.pivot")

    def start(self) -> None:
        """Start it, initialize it, import the images."""
        place = self.directory / "incus"
        place.mkdir(mode=0o711)
        self.environment = {"INCUS_DIR": str(place), "INCUS_CONF": str(self.directory / "client")}
        run_detached(
            [INCUSD, "--group", "root", "--logfile", str(self.directory / "incusd.log")],
            str(self.directory / "incusd.out"), env=self.environment,
        )  # fmt: skip
        self.run("incus", "admin", "waitready", "--timeout", "60")
        preseed = self.directory / "preseed.yaml"
        preseed.write_text(PRESEED)
        run(["sh", "-c", f"incus admin init --preseed < {preseed}"], env=self.environment)
        for image in ("debian", "tiny"):
            self.run(
                "incus",
                "image",
                "import",
                str(self.images.metadata_of(image)),
                str(self.images.rootfs(image)),
                "--alias",
                image,
            )
        self.connect(str(place))

    def stop(self) -> None:
        """Its own shutdown, which unmounts the pool."""
        self.run("incus", "admin", "shutdown", "--force", "--timeout", "60")
        for _ in until(60, 0.1):
            if not named("incusd"):
                return

    def version(self) -> str:
        """As it says itself."""
        return "incus " + run([INCUSD, "--version"]).strip()

    def create(self, image: str, name: str) -> None:
        """Not started."""
        self.run("incus", "init", "-q", image, name)

    def start_instance(self, name: str) -> None:
        """What was created."""
        self.run("incus", "start", name)

    def start_many(self, names: list[str]) -> None:
        """All at once, one command each."""
        together([["incus", "start", name] for name in names], env=self.environment)

    def launch(self, image: str, name: str) -> None:
        """Create and start."""
        self.run("incus", "launch", "-q", image, name)

    def start_tiny(self, name: str) -> None:
        """A tiny container that waits."""
        self.launch("tiny", name)

    def run_true(self) -> None:
        """By launch and exec, because it has no such verb; deleting is not measured."""
        self.launch("tiny", "bench-true")
        self.exec_true("bench-true")

    def after_run_true(self) -> None:
        """Delete the instance, which is not measured."""
        self.delete("bench-true")

    def kill(self, name: str) -> None:
        """At once."""
        self.run("incus", "stop", "-f", name)

    def delete(self, name: str) -> None:
        """Also when it runs."""
        self.run("incus", "delete", "-f", name)

    def delete_many(self, names: list[str]) -> None:
        """In one command."""
        self.run("incus", "delete", "-f", *names)

    def exec_true(self, name: str) -> None:
        """Not interactive."""
        self.run("incus", "exec", name, "--", "/bin/true")

    def pause(self, name: str) -> None:
        """Freeze."""
        self.run("incus", "pause", name)

    def resume(self, name: str) -> None:
        """Thaw."""
        self.run("incus", "resume", name)

    def limit_memory(self, name: str, mib: int) -> None:
        """Live."""
        self.run("incus", "config", "set", name, f"limits.memory={mib}MiB")

    def push(self, name: str, file: Path) -> None:
        """Into /root."""
        self.run("incus", "file", "push", "-q", str(file), f"{name}/root/megabyte")

    def pull(self, name: str, file: Path) -> None:
        """Out of /root."""
        self.run("incus", "file", "pull", "-q", f"{name}/root/megabyte", f"{file}.back")

    def list_all(self) -> None:
        """With its usual columns."""
        self.run("incus", "list")

    def list_projects(self) -> None:
        """Of every project."""
        self.run("incus", "list", "--all-projects")

    def noop(self) -> None:
        """Its version."""
        self.run("incus", "version")

    def monitors(self, name: str) -> list[int]:
        """Its LXC monitor."""
        return [
            pid
            for pid, _, argv in processes()
            if argv.startswith("[lxc monitor]") and argv.rstrip().endswith(f" {name}")
        ]

    def daemons(self) -> list[int]:
        """incusd itself, without dnsmasq, lxcfs and the monitors of instances, which have the same name."""
        return [pid for pid, _, argv in processes() if argv.startswith(f"{INCUSD} --group")]


SUBJECT = Incus
