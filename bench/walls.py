"""Instances of Isola behind each wall, over its API."""

import socket
from contextlib import suppress

from bench import machines
from bench.lxdlike import LxdLike
from bench.objects import started
from bench.program import command
from bench.shell import until


class Walls(LxdLike):
    """Verbs of the workloads that compare walls."""

    def make_wall(self, wall: str, name: str) -> None:
        """An instance with this isolation, of one program."""
        self._make_wall(wall, name, "sleep", "1000000")

    def serve_wall(self, wall: str, name: str) -> None:
        """Its program reads all that is sent to its port 80."""
        sink = ("-e", "/bin/busybox", "dd", "bs=1048576", "of=/dev/null")
        self._make_wall(wall, name, "nc", "-ll", "-p", "80", *sink)
        self.act(*started(name))
        for _ in until(30, 0.05):
            with suppress(OSError):
                socket.create_connection((self.wall_address(name), 80), timeout=1).close()
                return

    def wall_address(self, name: str) -> str:
        """On the bridge."""
        found = self.act("GET", f"/1.0/instances/{name}/state")["network"]["eth0"]["addresses"]
        return next(str(each["address"]) for each in found if each["family"] == "inet")

    def _make_wall(self, wall: str, name: str, *argv: str) -> None:
        body: dict[str, object] = {"name": name, "isolation": wall, "source": {"type": "image", "alias": "tiny"}}
        body["program"] = {"entrypoint": [""], "arguments": ["/bin/busybox", *argv]}
        if wall in machines.SAYS:
            self._import_machine(wall)
            body = {"name": name, "source": {"type": "image", "alias": wall}}
        if wall == "vm":
            body["type"] = "virtual-machine"
            body["config"] = {"limits.memory": "256MiB", "limits.cpu": "1", "security.secureboot": "false"}
        self.act("POST", "/1.0/instances", body)

    def _import_machine(self, wall: str) -> None:
        if (file := self.directory / f"{wall}.img").exists():
            return
        machines.write(wall, file)
        self.run(command("isola"), "image", "import", str(file), "--type", wall, "--alias", wall)

    def start_container(self, name: str) -> None:
        """By API; made if it is not there."""
        self._start_wall("container", name)

    def start_sandbox(self, name: str) -> None:
        """The same."""
        self._start_wall("sandbox", name)

    def start_microvm(self, name: str) -> None:
        """The same."""
        self._start_wall("microvm", name)

    def start_vm(self, name: str) -> None:
        """Until its system says that it has booted."""
        self._start_wall("vm", name)
        self._await_machine("vm", name)

    def start_unikernel(self, name: str) -> None:
        """Until it says so."""
        self._start_wall("unikernel", name)
        self._await_machine("unikernel", name)

    def _await_machine(self, wall: str, name: str) -> None:
        for _ in until(180, 0.01):
            if machines.SAYS[wall].encode() in self.connection.get(f"/1.0/instances/{name}/console"):
                return

    def inside(self, name: str, *argv: str) -> str:
        """By the command line."""
        return self.run(command("isola"), "exec", name, "--", *argv)

    def end_wall(self, name: str) -> None:
        """At once."""
        self.delete(name)

    def writes_to_disk(self) -> None:
        """Its root is a volume."""

    def _start_wall(self, wall: str, name: str) -> None:
        if name not in self._walls():
            self.make_wall(wall, name)
        self.act(*started(name))

    def _walls(self) -> set[str]:
        return {each["name"] for each in self.act("GET", "/1.0/instances?recursion=1")}
