"""A real daemon in a separate network namespace and directory, controlled over its socket."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daemon_starter import Started, starter
from loop_devices import unused_loops

from isola.host.id_ranges import CLAIMS
from isola.host.tags import TAGS, names_of
from isola.model.identity import HostNames

Json = dict[str, Any]
TIMEOUT_FACTOR = float(os.environ.get("ISOLA_TEST_TIMEOUT_FACTOR") or 1)
"""What a daemon may take to start and to answer, for slow machines: an emulated processor needs a minute to load it."""


class ApiError(Exception):
    """The daemon responded with an error."""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(f"{status}: {body.get('error')}")
        self.status = status
        self.body = body
        self.code = (body.get("metadata") or {}).get("code", "")


class Connection(http.client.HTTPConnection):
    """An HTTP connection to the socket of a daemon."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("isola", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Daemon:
    """Starts, kills, restarts and removes a daemon; lists its objects on the host."""

    _numbers = itertools.count()

    def __init__(
        self,
        *,
        faults: bool = False,
        mirror: bool = False,
        beside: Daemon | None = None,
        place: Path | None = None,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """``mirror``: in the host's network, where Debian's mirror can be reached, and without a network of its own.

        ``beside``: in the network namespace of another daemon, which is removed after this one.
        ``place``: parent of its directory, instead of the one for temporary files; ``directory``: an existing
        one.
        ``environment``: added to that of the tests.
        """
        self.directory = directory or Path(os.path.realpath(tempfile.mkdtemp(prefix="isola-test-", dir=place)))
        self.directory.mkdir(exist_ok=True)
        self.directory.chmod(0o711)
        (self.directory / "logs").mkdir()
        self.socket = self.directory / "unix.socket"
        self.netns: str = beside.netns if beside is not None else f"isola-{uuid.uuid4().hex[:8]}"
        self._owns_netns = beside is None and not mirror
        self.log = self.directory / "logs" / "daemon.log"
        self._environment = os.environ | dict(environment or {})
        self._module = "isola.testing.daemon" if faults else "isola.daemon.main"
        self.process: subprocess.Popen[bytes] | Started | None = None
        self.program: tuple[str, ...] = (sys.executable, "-m", self._module)
        """If a test changes it, it is run; else a process that has imported the same starts the daemon."""
        self._enter = [] if mirror else ["nsenter", f"--net=/run/netns/{self.netns}"]
        if self._owns_netns:
            subprocess.run(["ip", "netns", "add", self.netns], check=True)
            self.inside("ip", "link", "set", "lo", "up")

    @property
    def names(self) -> HostNames:
        """Names of its objects on the host."""
        return names_of(self.directory)

    # --- processes ----------------------------------------------------------------------------------------------

    def inside(self, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program in the daemon's network namespace; /sys stays the host's."""
        options = {"check": True, "text": True, "capture_output": True, "timeout": 60} | options
        return subprocess.run([*self._enter, *argv], **options)  # noqa: PLW1510

    def start(self, timeout: float = 60) -> None:
        """Start it and wait until it responds."""
        arguments = [str(self.directory)] if "testing" in self._module else ["--dir", str(self.directory)]
        arguments += [] if self._enter else ["--minimal"]
        with self.log.open("ab") as log:
            self.process = self._begin(arguments, log.fileno())
        end = time.monotonic() + timeout * TIMEOUT_FACTOR
        while True:
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended: {self.log.read_text()[-3000:]}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.get("/1.0")
                Connection(self.directory / "docker.sock", 5).connect()  # is opened last
                return
            if time.monotonic() > end:
                raise AssertionError(f"the daemon does not answer: {self.log.read_text()[-3000:]}")
            time.sleep(0.02)

    def _begin(self, arguments: list[str], log: int) -> subprocess.Popen[bytes] | Started:
        if self.program == (sys.executable, "-m", self._module):
            netns = f"/run/netns/{self.netns}" if self._enter else None
            return starter().start(self._module, arguments, self._environment, netns, log)
        return subprocess.Popen(
            [*self._enter, *self.program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=self._environment,
        )

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, *, instances: bool = False) -> None:
        """Stop it cleanly, and wait."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGPWR if instances else signal.SIGTERM)
            self.process.wait(120)

    def close(self) -> None:
        """Remove everything, and fail if anything is left."""
        try:
            if self.process is not None:
                if self.process.poll() is not None:
                    self.start()
                self.stop(instances=True)
                left = self._left()
                assert not left, f"left on the host: {left}\n{self.log.read_text()[-3000:]}"
        finally:
            self._scrub()

    def _left(self) -> dict[str, object]:
        """What stays: the kernel removes loop devices and links later, once others have no copies of mounts."""
        end = time.monotonic() + 30
        while (left := self.on_host()) and time.monotonic() < end:
            time.sleep(0.1)
        return left

    def _scrub(self) -> None:
        """Remove remains of a failed test, so that they do not affect the next."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        for pid in self.host_processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        for mount in sorted(self.mounts(), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False)
        for _ in range(50):
            groups = sorted(self.cgroups(), key=len, reverse=True)
            if not groups:
                break
            for group in groups:
                with contextlib.suppress(OSError):
                    for pid in (Path(group) / "cgroup.procs").read_text().split():
                        os.kill(int(pid), signal.SIGKILL)
                with contextlib.suppress(OSError):
                    Path(group).rmdir()
            time.sleep(0.05)
        if self._owns_netns:
            subprocess.run(["ip", "netns", "del", self.netns], check=False)
        for base, holder in self.id_claims().items():
            if holder.startswith(f"{self.directory}/"):
                (CLAIMS / str(base)).unlink(missing_ok=True)
        shutil.rmtree(self.directory, ignore_errors=True)
        self._unclaim()

    def _unclaim(self) -> None:
        for link in TAGS.iterdir() if TAGS.is_dir() else []:
            with contextlib.suppress(FileNotFoundError):  # other tests run concurrently
                if os.readlink(link) == str(self.directory):
                    link.unlink()

    # --- objects on the host --- ---------------------------------------------------------------------------------

    def mounts(self) -> list[str]:
        """Mount points below the directory."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line.split()[4] for line in lines if line.split()[4].startswith(f"{self.directory}/")]

    def links(self) -> list[str]:
        """Its links in the namespace, without loopback."""
        links = json.loads(self.inside("ip", "-j", "link").stdout)
        return sorted(link["ifname"] for link in links if link["ifname"] != "lo" and link.get("link_type") != "sit")

    @staticmethod
    def id_claims() -> dict[int, str]:
        """Id ranges that the daemons of this host have claimed, with their holders."""
        found = {}
        for link in CLAIMS.iterdir() if CLAIMS.is_dir() else []:
            with contextlib.suppress(FileNotFoundError):  # other tests run concurrently
                found[int(link.name)] = os.readlink(link)
        return found

    def tables(self) -> list[str]:
        """nftables tables in the namespace."""
        return sorted(self.inside("nft", "list", "tables").stdout.splitlines())

    def cgroups(self) -> list[str]:
        """Its cgroup directories in every hierarchy, including the daemon's own top directory."""
        roots = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]
        tops = {root / self.names.tag for root in roots if (root / self.names.tag).is_dir()}
        return sorted(path for top in tops for path, _, _ in os.walk(top))

    def host_processes(self) -> dict[str, str]:
        """Processes with the directory in their command line, but for the daemon itself."""
        own = str(self.process.pid) if self.process is not None else ""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and entry.name not in (own, str(os.getpid())):
                with contextlib.suppress(OSError):
                    argv = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if str(self.directory) in argv and "pytest" not in argv:
                        found[entry.name] = argv
        return found

    def on_host(self) -> dict[str, object]:
        """All traces outside the directory, by kind; empty when there are none."""
        seen = {
            "mounts": self.mounts(),
            "links": self.links() if self._owns_netns else [],
            "tables": self.tables() if self._owns_netns else [],
            "cgroups": self.cgroups(),
            "processes": self.host_processes(),
            "loop devices": sorted(unused_loops(self.directory)),
        }
        return {kind: things for kind, things in seen.items() if things}

    # --- the API ------------------------------------------------------------------------------------------------

    def request(
        self, method: str, path: str, body: Any = None, *, headers: Json | None = None, timeout: float = 120
    ) -> Json:
        """One request; raises ApiError for an error."""
        connection = Connection(self.socket, timeout * TIMEOUT_FACTOR)
        try:
            data = json.dumps(body).encode() if body is not None and not isinstance(body, bytes) else body
            connection.request(method, path, body=data, headers=headers or {})
            response = connection.getresponse()
            answer: Json = json.loads(response.read())
        finally:
            connection.close()
        if answer.get("type") == "error":
            raise ApiError(response.status, answer)
        return answer

    def answer(self, path: str) -> tuple[Json, Json]:
        """A response with its headers."""
        connection = Connection(self.socket, 120)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return json.loads(response.read()), dict(response.headers)
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """The metadata of a response."""
        return self.request("GET", path)["metadata"]

    def start_operation(self, method: str, path: str, body: Any = None, **options: Any) -> Json:
        """The operation that an asynchronous request has started."""
        begun: Json = self.request(method, path, body, **options)["metadata"]
        return begun

    def wait(self, operation: Json, timeout: float = 120) -> Json:
        """Wait for the end of an operation; returns it."""
        path = f"/1.0/operations/{operation['id']}/wait?timeout={timeout:.0f}"
        ended: Json = self.request("GET", path, timeout=timeout + 10)["metadata"]
        return ended

    def run(self, method: str, path: str, body: Any = None, **options: Any) -> Json:
        """Send a request and wait for its operation, if there is one; raises AssertionError if that fails."""
        answer = self.request(method, path, body, **options)
        if answer["type"] == "sync":
            return answer["metadata"] or {}
        ended = self.wait(answer["metadata"], options.get("timeout", 120))
        assert ended["status"] == "Success", ended["err"]
        return ended

    def idle(self, timeout: float = 30) -> None:
        """Wait until no operation runs, including those in the background."""
        end = time.monotonic() + timeout
        while running := self.get("/1.0/operations").get("running", []):
            assert time.monotonic() < end, f"operations do not end: {running}"
            time.sleep(0.02)

    # --- shortcuts ----------------------------------------------------------------------------------------------

    def import_split(self, metadata: Path, rootfs: Path, alias: str) -> str:
        """Upload an image in two parts; returns its fingerprint."""
        boundary = uuid.uuid4().hex
        body = b"".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{file.name}"\r\n'
            f"Content-Type: application/octet-stream\r\n\r\n".encode()
            + file.read_bytes()
            + b"\r\n"
            for name, file in (("metadata", metadata), ("rootfs", rootfs))
        )
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        ended = self.run("POST", "/1.0/images", body + f"--{boundary}--\r\n".encode(), headers=headers)
        fingerprint = str(ended["metadata"]["fingerprint"])
        self.request("POST", "/1.0/images/aliases", {"name": alias, "target": fingerprint})
        return fingerprint

    def import_image(self, file: Path, alias: str) -> str:
        """Upload a unified tarball; returns its fingerprint."""
        headers = {"Content-Type": "application/octet-stream", "X-LXD-filename": file.name}
        ended = self.run("POST", "/1.0/images", file.read_bytes(), headers=headers)
        fingerprint = str(ended["metadata"]["fingerprint"])
        self.request("POST", "/1.0/images/aliases", {"name": alias, "target": fingerprint})
        return fingerprint

    def launch(self, name: str, alias: str = "tiny", **more: Any) -> None:
        """Create and start."""
        source = {"type": "image", "alias": alias}
        self.run("POST", "/1.0/instances", {"name": name, "source": source, "start": True} | more)

    def change(self, name: str, action: str, **more: Any) -> None:
        """Start, stop, restart, freeze, unfreeze."""
        self.run("PUT", f"/1.0/instances/{name}/state", {"action": action, "timeout": 120, "force": False} | more)

    def status(self, name: str) -> str:
        """Running, Stopped, ..."""
        return str(self.get(f"/1.0/instances/{name}")["status"])

    def pid(self, name: str) -> int:
        """PID of the instance's first process, on the host."""
        return int(self.get(f"/1.0/instances/{name}/state")["pid"])

    def exec(self, name: str, *command: str, **more: Any) -> tuple[int, str, str]:
        """Run a command with recorded output: status, standard output, standard error."""
        body = {"command": list(command), "record-output": True, "wait-for-websocket": False} | more
        ended = self.run("POST", f"/1.0/instances/{name}/exec", body)
        texts = [self.read(ended["metadata"]["output"][number]) for number in ("1", "2")]
        return ended["metadata"]["return"], texts[0], texts[1]

    def exec_status(self, name: str, *command: str) -> int:
        """Run a command whose output is not kept."""
        body = {"command": list(command), "wait-for-websocket": False}
        return int(self.run("POST", f"/1.0/instances/{name}/exec", body)["metadata"]["return"])

    def read(self, path: str) -> str:
        """A raw body as text; raises ApiError."""
        connection = Connection(self.socket, 60)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            if response.status >= 400:
                raise ApiError(response.status, json.loads(body))
            return body.decode(errors="replace")
        finally:
            connection.close()
