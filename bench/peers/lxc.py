"""Plain lxc-start on a bridge: the minimal cost of a system container."""

from collections.abc import Sequence
from pathlib import Path

from bench.mounts import Roots
from bench.shell import run, together
from bench.subject import Subject

CONFIG = """\
lxc.uts.name = {name}
lxc.rootfs.path = dir:{root}
lxc.init.cmd = {init}
lxc.net.0.type = veth
lxc.net.0.link = lxcbench
lxc.net.0.flags = up
lxc.net.0.ipv4.address = 10.203.0.{host}/24
lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed
lxc.mount.entry = tmpfs run tmpfs mode=755 0 0
lxc.apparmor.profile = unconfined
lxc.environment = container=lxc
lxc.pty.max = 64
lxc.tty.max = 0
"""


class Lxc(Subject):
    """A clone is an overlay mount; everything else is the tools of the package lxc."""

    title = "plain lxc-start"

    @classmethod
    def control_groups(cls, directory: Path) -> Sequence[str]:
        """By name."""
        return ("lxc.payload.bench-*", "lxc.monitor.bench-*", "lxc.pivot")

    def start(self) -> None:
        """A bridge and two unpacked images."""
        self._roots = Roots(self.directory, self.images)
        self._next = 2
        (self.directory / "lxc").mkdir()
        run(["ip", "link", "add", "lxcbench", "type", "bridge"])
        run(["ip", "address", "add", "10.203.0.1/24", "dev", "lxcbench"])
        run(["ip", "link", "set", "lxcbench", "up"])

    def stop(self) -> None:
        """Containers end with the process namespace."""

    def version(self) -> str:
        """As it says itself."""
        return "lxc " + run(["lxc-start", "--version"]).strip()

    def create(self, image: str, name: str) -> None:
        """An overlay and a file."""
        place = self.directory / "lxc" / name
        place.mkdir()
        root = self._roots.make(image, name)
        self._next = self._next % 250 + 1
        (place / "config").write_text(CONFIG.format(name=name, root=root, init="/sbin/init", host=self._next))

    def start_instance(self, name: str) -> None:
        """In the background; returns when it runs."""
        run(self._lxc("start", name, "-d"))

    def start_many(self, names: list[str]) -> None:
        """All at once."""
        together([self._lxc("start", name, "-d") for name in names])

    def launch(self, image: str, name: str) -> None:
        """Create and start."""
        self.create(image, name)
        self.start_instance(name)

    def start_tiny(self, name: str) -> None:
        """A tiny container that waits."""
        self.launch("tiny", name)

    def kill(self, name: str) -> None:
        """At once."""
        run(self._lxc("stop", name, "-k"))

    def delete(self, name: str) -> None:
        """Stop it if need be, then remove it."""
        run(self._lxc("stop", name, "-k"), ok=(0, 2))
        self._roots.drop(name)
        (self.directory / "lxc" / name / "config").unlink()
        (self.directory / "lxc" / name).rmdir()

    def run_true(self) -> None:
        """Start a tiny system and attach to it."""
        self.launch("tiny", "bench-true")
        self.exec_true("bench-true")

    def after_run_true(self) -> None:
        """Delete its container, which is not measured."""
        self.delete("bench-true")

    def exec_true(self, name: str) -> None:
        """lxc-attach."""
        run([*self._lxc("attach", name), "--", "/bin/true"])

    def list_all(self) -> None:
        """lxc-ls."""
        run(["lxc-ls", "-P", str(self.directory / "lxc")])

    def pause(self, name: str) -> None:
        """Freeze."""
        run(self._lxc("freeze", name))

    def resume(self, name: str) -> None:
        """Thaw."""
        run(self._lxc("unfreeze", name))

    def limit_memory(self, name: str, mib: int) -> None:
        """Through the control group."""
        run([*self._lxc("cgroup", name), "memory.limit_in_bytes", f"{mib}M"])

    def _lxc(self, verb: str, name: str, *more: str) -> list[str]:
        return [f"lxc-{verb}", "-P", str(self.directory / "lxc"), "-n", name, *more]


SUBJECT = Lxc
