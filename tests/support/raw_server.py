"""A server that responds with prepared bytes, valid or hostile."""

from __future__ import annotations

import socket
import threading
from pathlib import Path


class RawServer:
    """Responds to every request with prepared bytes, then closes the connection or waits for the next."""

    def __init__(self, directory: Path, *answers: bytes, piece: int = 0, read_all: bool = True) -> None:
        self.path = str(directory / "unix.socket")
        self._answers = list(answers)
        self._piece = piece
        self._read_all = read_all
        self.requests: list[bytes] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while self._answers:
            link, _ = self._listener.accept()
            with link:
                self._talk(link)

    def _talk(self, link: socket.socket) -> None:
        while self._answers:
            request = self._request(link)
            if not request:
                return
            self.requests.append(request)
            answer = self._answers.pop(0)
            step = self._piece or len(answer) or 1
            for start in range(0, len(answer), step):
                link.sendall(answer[start : start + step])
            if b"Connection: close" in answer or not answer.endswith(b"}"):
                return

    def _request(self, link: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            got = link.recv(65536)
            if not got:
                return b""
            data += got
        head, _, body = data.partition(b"\r\n\r\n")
        wanted = [
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        ]
        while self._read_all and wanted and len(body) < wanted[0]:
            body += link.recv(65536)
        return head + b"\r\n\r\n" + body


def reply(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
