"""Git repositories on an HTTP server: by Git's own program, as plain files, behind redirects and logins.

``python git_server.py ROOT PORT`` serves until it is killed.
"""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BACKEND = "/usr/lib/git-core/git-http-backend"
TOKEN = "t0ken"
AUTHOR = ("-c", "user.name=n", "-c", "user.email=n@example.org")


class _Handler(BaseHTTPRequestHandler):
    """``/smart``, ``/plain``, ``/login``; ``/moved`` leads to the first, ``/away`` to an address of the host itself."""

    root: Path

    def do_GET(self) -> None:
        """Anything."""
        kind, _, rest = self.path.lstrip("/").partition("/")
        if kind == "moved":
            self._redirect(f"/smart/{rest}")
        elif kind == "away":
            self._redirect(f"http://127.0.0.1:1/{rest}")
        elif kind == "login" and self.headers.get("Authorization") != _expected():
            self.send_error(401)
        elif kind in ("smart", "login"):
            self._program(rest)
        else:
            self._file(rest.partition("?")[0])

    do_POST = do_GET  # noqa: N815 - the names of the library

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""

    def _redirect(self, location: str) -> None:
        self.send_response(301)
        self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, path: str) -> None:
        file = self.root / path
        if not file.is_file():
            self.send_error(404)
            return
        data = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _program(self, rest: str) -> None:
        path, _, query = rest.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REQUEST_METHOD": self.command,
            "PATH_INFO": f"/{path}",
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run([BACKEND], env=environment, input=body, capture_output=True, check=False)
        head, _, data = done.stdout.partition(b"\r\n\r\n")
        headers = [line.partition(": ")[::2] for line in head.decode().split("\r\n")]
        status = next((value.split()[0] for name, value in headers if name == "Status"), "200")
        self.send_response(int(status))
        for name, value in headers:
            if name and name != "Status":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _expected() -> str:
    return "basic " + base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()


@contextlib.contextmanager
def git_server(root: Path) -> Iterator[str]:
    """Its address, on the loopback of this process' network."""
    server = _server(root, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _server(root: Path, port: int) -> ThreadingHTTPServer:
    return ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"root": root}))


def make_repository(root: Path) -> str:
    """``root/app.git``: branches ``main`` and ``next``, the tag ``v1`` of the first commit, whose id is returned."""
    work = root / "tree"
    work.mkdir(parents=True)
    git(work, "init", "--quiet", "--initial-branch=main")
    (work / "server").mkdir()
    (work / "server" / "page").write_text("one\n")
    (work / "Dockerfile").write_text("FROM app\nCOPY server/page /page\nRUN cat /page\n")
    (work / "server" / "Dockerfile").write_text("FROM app\nCOPY . /all/\nRUN cat /all/page\n")
    (work / "run").write_text("#!/bin/sh\n")
    (work / "run").chmod(0o755)
    (work / "etc").symlink_to("/etc")
    (work / ".gitattributes").write_text("server/page export-ignore\nrun filter=evil\n")
    first = commit(work, "first")
    git(work, "tag", "v1")
    (work / "server" / "page").write_text("two\n")
    (work / ".gitmodules").write_text('[submodule "x"]\npath = x\nurl = file:///etc\n')
    commit(work, "second")
    git(work, "checkout", "--quiet", "-b", "next")
    (work / "server" / "page").write_text("next\n")
    commit(work, "third")
    git(work, "checkout", "--quiet", "main")
    publish(work, root / "app.git")
    return first


def publish(work: Path, target: Path) -> None:
    """A bare copy, also for servers of plain files."""
    git(work, "clone", "--quiet", "--bare", str(work), str(target))
    git(target, "update-server-info")


def commit(work: Path, message: str) -> str:
    """Of everything; returns its id."""
    git(work, "add", "--all")
    git(work, *AUTHOR, "commit", "--quiet", "--message", message)
    return git(work, "rev-parse", "HEAD").strip()


def git(place: Path, *arguments: str, said: str = "") -> str:
    """Output of the program, without the settings of this host."""
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
    dates = {"GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000"}
    return subprocess.run(
        ["git", *arguments], cwd=place, env=environment | dates, input=said, check=True, capture_output=True, text=True
    ).stdout


if __name__ == "__main__":
    _server(Path(sys.argv[1]), int(sys.argv[2])).serve_forever()
