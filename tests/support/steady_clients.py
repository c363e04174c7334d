"""Clients that ask an HTTP server without a pause, and count what it answers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType

_PROGRAM = """
import collections, json, socket, sys, threading, time
host, port, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
answers, failures, done = collections.Counter(), [], threading.Event()
lock = threading.Lock()

def ask():
    with socket.create_connection((host, port), timeout=15) as peer:
        peer.sendall(b"GET / HTTP/1.0\\r\\nHost: web\\r\\n\\r\\n")
        data = b""
        while block := peer.recv(65536):
            data += block
    head, _, body = data.partition(b"\\r\\n\\r\\n")
    if b" 200 " not in head.split(b"\\r\\n")[0] + b" ":
        raise OSError(f"answer {data[:80]!r}")
    return body.decode().strip()

def work():
    while not done.is_set():
        begun = time.time()
        try:
            said = ask()
            with lock:
                answers[said] += 1
        except OSError as error:
            with lock:
                failures.append(f"{begun:.3f} +{time.time() - begun:.3f}: {error!r}")
        time.sleep(0.02)

workers = [threading.Thread(target=work) for _ in range(threads)]
for worker in workers:
    worker.start()
print("ready", flush=True)
sys.stdin.read()
done.set()
for worker in workers:
    worker.join()
print(json.dumps([answers, failures[:20], len(failures)]))
"""


class SteadyClients:
    """A context: several threads in a network namespace, each with one connection for each request."""

    def __init__(self, enter: Sequence[str], host: str, port: int, threads: int = 2) -> None:
        self._argv = [*enter, sys.executable, "-c", _PROGRAM, host, str(port), str(threads)]
        self.answers: dict[str, int] = {}
        self.failures: list[str] = []
        self.failed = 0

    def __enter__(self) -> SteadyClients:
        self._process = subprocess.Popen(self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            said, _ = self._process.communicate("", timeout=60)
            self.answers, self.failures, self.failed = json.loads(said)
        finally:
            self._process.kill()
            self._process.wait()
