"""Mounts an instance's files on this machine, by sshfs over the daemon's SFTP."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable

from isola.client.files import Files
from isola.errors import HostFailure, InvalidInput

_BLOCK = 65536


def mount(files: Files, path: str, target: str, name: str, say: Callable[[str], None]) -> int:
    """Mount until it is unmounted, interrupted, or the instance starts or stops; returns the exit status.

    ``name`` is shown in the mount table.
    """
    program = shutil.which("sshfs")
    if program is None:
        raise HostFailure("sshfs is not installed", remedy="apt-get install sshfs")
    if not os.path.isdir(target):
        raise InvalidInput(f"{target} is not a directory", remedy="create it first")
    if os.path.ismount(target):
        raise InvalidInput(f"Something is mounted on {target}", remedy="unmount it, or use another directory")
    found, secure = files.sftp()
    with contextlib.closing(found):
        found.setblocking(True)
        say(f"{name}:{path} is mounted on {target} until Ctrl-C")
        if not secure:
            return _run(program, found, f"{name}:{path}", target)
        near, far = socket.socketpair()
        with near, far:
            for source, sink in ((found, near), (near, found)):
                threading.Thread(target=_copy, args=(source, sink), daemon=True).start()
            return _run(program, far, f"{name}:{path}", target)


def _run(program: str, end: socket.socket, source: str, target: str) -> int:
    argv = [program, "-o", "passive", "-o", "fsname=" + source.replace(",", "_"), source, target]
    process = subprocess.Popen(argv, stdin=end.fileno(), stdout=end.fileno())
    interrupted = False
    while True:
        try:
            status = process.wait()
            return 0 if interrupted else status
        except KeyboardInterrupt:  # sshfs gets SIGINT too: it unmounts and exits with an error
            interrupted = True


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_BLOCK):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
