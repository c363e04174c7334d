"""Debian's docker-registry beside a daemon, with TLS and a password; and a proxy that cuts connections to it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from daemon import Daemon
from server_certificate import server_certificate

PORT, CUT_PORT = 5000, 5001
_HOLDS = -1
"""Instead of a number of cuts."""
USER, PASSWORD = "ann", "secret"
_HASH = "$2b$04$7IsaKsfCJGR1v.5MQG8NOuXU4PSB7mNN90aF1/B53NRRydXEYXQX6"
"""Of the password, by bcrypt, which is the only algorithm that the registry takes."""


class DebianRegistry:
    """On 127.0.0.1 in the network namespace of a daemon; its files are below ``directory``."""

    address = f"127.0.0.1:{PORT}"
    cut_address = f"127.0.0.1:{CUT_PORT}"

    def __init__(self, daemon: Daemon, directory: Path) -> None:
        self.daemon = daemon
        self.directory = directory
        self.storage = directory / "storage"
        self.certificate, key = server_certificate(directory)
        (directory / "htpasswd").write_text(f"{USER}:{_HASH}\n")
        (directory / "config.json").write_text(json.dumps(self._configuration(key)))
        self._running: list[subprocess.Popen[bytes]] = []

    def _configuration(self, key: Path) -> dict[str, object]:
        tls = {"certificate": str(self.certificate), "key": str(key)}
        return {
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(self.storage)}},
            "http": {"addr": self.address, "tls": tls},
            "auth": {"htpasswd": {"realm": "test", "path": str(self.directory / "htpasswd")}},
        }

    def start(self) -> None:
        """Returns when it accepts connections."""
        self._start("docker-registry", "serve", str(self.directory / "config.json"))
        self._until_open(PORT)

    def start_cutting(self, limit: int, times: int, target: int = PORT) -> Path:
        """Start a proxy to it, or to another port, that cuts connections after ``limit`` bytes, ``times`` times.

        Returns the file in which it counts the bytes that went through it.
        """
        count = self.directory / "count"
        self._start(sys.executable, __file__, str(CUT_PORT), str(target), str(limit), str(times), str(count))
        self._until_open(CUT_PORT)
        return count

    def start_holding(self, limit: int) -> None:
        """Start a proxy to it that passes no more on a connection after ``limit`` bytes."""
        self.start_cutting(limit, _HOLDS)

    def end_cutting(self) -> None:
        """End the proxy, which was started last."""
        process = self._running.pop()
        process.kill()
        process.wait()

    def trust_in(self, daemon: Daemon) -> None:
        """Install its certificate."""
        for address in (self.address, self.cut_address):
            place = daemon.directory / "certs.d" / address
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.certificate, place / "ca.crt")

    def blob(self, digest: str) -> Path:
        """The file of a blob."""
        digits = digest.removeprefix("sha256:")
        return self.storage / "docker/registry/v2/blobs/sha256" / digits[:2] / digits / "data"

    def end(self) -> None:
        """End all processes."""
        for process in self._running:
            process.kill()
            process.wait()

    def _start(self, *argv: str) -> None:
        enter = ["nsenter", f"--net=/run/netns/{self.daemon.netns}"]
        self._running.append(subprocess.Popen([*enter, *argv], stdin=subprocess.DEVNULL))

    def _until_open(self, port: int) -> None:
        for _ in range(600):
            done = self.daemon.inside("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}", check=False)
            if done.returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError(f"nothing listens on port {port}")


def main(port: str, target: str, limit: str, times: str, count: str) -> None:
    """The proxy."""
    import asyncio

    left, total = int(times), 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", int(target))
        passed = 0

        async def copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
            nonlocal left, total, passed
            while block := await source.read(65536):
                passed, total = passed + len(block), total + len(block)
                Path(count).write_text(str(total))  # noqa: ASYNC240
                if left and passed > int(limit):
                    if left == _HOLDS:
                        await asyncio.Event().wait()
                    left -= 1
                    break
                to.write(block)
                await to.drain()
            writer.close()
            far_writer.close()

        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer), return_exceptions=True)

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", int(port))
        await server.serve_forever()

    asyncio.run(run())


if __name__ == "__main__":
    main(*sys.argv[1:])
