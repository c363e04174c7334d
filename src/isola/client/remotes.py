"""The user's remotes and key in ``~/.config/isola``.

``remotes.json`` contains names, addresses and the servers' fingerprints; ``client.crt`` and ``client.key`` are the
user's, created with the first remote. Only the user may read them, and they are replaced atomically.
"""

from __future__ import annotations

import os

from isola.client import json
from isola.client.home import home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

LOCAL = "local"
"""Name of this machine's daemon, which is reached over its socket."""
PORT = 8443
_FILE, _CERTIFICATE, _KEY = "remotes.json", "client.crt", "client.key"


class Remote:
    """A daemon reached over the network, identified by its certificate."""

    def __init__(
        self, name: str, url: str, fingerprint: str, identity: tuple[str, str] | None, project: str = ""
    ) -> None:
        self.name = name
        self.url = url
        self.fingerprint = fingerprint
        """SHA-256 of the server's certificate."""
        self.identity = identity
        """Paths of the user's certificate and key."""
        self.project = project
        self.host, self.port = split(url)


class Remotes:
    """The user's remotes; every change is written to the file at once."""

    def __init__(self, directory: str | None = None) -> None:
        self.directory = directory or home()
        self._entries: dict[str, dict[str, str]] = {}
        self.default = LOCAL
        self.projects: dict[str, str] = {}
        """Default projects of this machine's daemons, by directory; the key of the default directory is empty."""
        self._read()

    def names(self) -> list[str]:
        """All names; ``local`` is the first."""
        return [LOCAL, *sorted(self._entries)]

    def find(self, name: str) -> Remote | None:
        """The remote; None if it is unknown, or ``local``."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        identity = (self._path(_CERTIFICATE), self._path(_KEY))
        return Remote(name, entry["url"], entry["fingerprint"], identity, entry.get("project", ""))

    def get(self, name: str) -> Remote:
        """Raises NotFound, and InvalidInput for ``local``, which has no entry."""
        from isola.errors import InvalidInput, NotFound

        if name == LOCAL:
            raise InvalidInput(f"{LOCAL!r} is the daemon of this machine and cannot be changed")
        found = self.find(name)
        if found is None:
            raise NotFound(f"There is no remote {name!r}", evidence=f"there are {', '.join(self.names())}")
        return found

    def add(self, name: str, url: str, fingerprint: str, project: str = "") -> None:
        """Raises AlreadyExists, InvalidInput."""
        self.require_new(name)
        self._entries[name] = {"url": url, "fingerprint": fingerprint} | ({"project": project} if project else {})
        self._write()

    def remove(self, name: str) -> None:
        """Remove a remote; if it was the default, ``local`` becomes the default. Raises NotFound."""
        self.get(name)
        del self._entries[name]
        if self.default == name:
            self.default = LOCAL
        self._write()

    def rename(self, name: str, new: str) -> None:
        """Raises NotFound, AlreadyExists, InvalidInput."""
        self.get(name)
        self.require_new(new)
        self._entries[new] = self._entries.pop(name)
        if self.default == name:
            self.default = new
        self._write()

    def change(self, name: str, **fields: str) -> None:
        """Change ``url`` or ``project``. Raises NotFound."""
        self.get(name)
        self._entries[name] |= fields
        self._write()

    def choose(self, directory: str, project: str) -> None:
        """Set the default project for this machine's daemon with this directory."""
        self.projects[directory] = project
        self._write()

    def switch(self, name: str) -> None:
        """Set the default remote. Raises NotFound."""
        if name != LOCAL:
            self.get(name)
        self.default = name
        self._write()

    def ensure_identity(self) -> tuple[str, str]:
        """Paths of the user's certificate and key, which are created if they are missing."""
        certificate, key = self._path(_CERTIFICATE), self._path(_KEY)
        if not (os.path.exists(certificate) and os.path.exists(key)):
            from datetime import UTC, datetime
            from getpass import getuser
            from socket import gethostname

            from isola.x509 import make

            made = make(f"{getuser()}@{gethostname()}", datetime.now(UTC), server=False)
            self._replace(_KEY, made.key)
            self._replace(_CERTIFICATE, made.certificate)
        return certificate, key

    def require_new(self, name: str) -> None:
        """Check the name of a new remote. Raises AlreadyExists, InvalidInput."""
        from isola.errors import AlreadyExists, InvalidInput

        if not name or len(name) > 63 or any(not (sign.isalnum() or sign in "-_.") for sign in name):
            raise InvalidInput(f"{name!r} is not a valid remote name", remedy="use letters, digits, hyphens and dots")
        if name in self.names():
            raise AlreadyExists(f"There is a remote {name!r} already", remedy="choose another name, or remove it")

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def _read(self) -> None:
        try:
            with open(self._path(_FILE), "rb") as file:
                document = json.decode(file.read())
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise _damaged(self._path(_FILE), error) from None
        remotes = document.get("remotes") if isinstance(document, dict) else None
        if not isinstance(document, dict) or not isinstance(remotes, dict):
            raise _damaged(self._path(_FILE), ValueError("it has no field remotes"))
        self._entries = {str(name): _entry(found, self._path(_FILE)) for name, found in remotes.items()}
        chosen = document.get("projects")
        if isinstance(chosen, dict):
            self.projects = {str(place): str(name) for place, name in chosen.items()}
        default = document.get("default")
        self.default = default if isinstance(default, str) and default in self._entries else LOCAL

    def _write(self) -> None:
        self._replace(
            _FILE, json.encode({"default": self.default, "remotes": self._entries, "projects": self.projects})
        )

    def _replace(self, name: str, text: str) -> None:
        """Replace a file atomically and durably."""
        os.makedirs(self.directory, 0o700, exist_ok=True)
        temporary = self._path(f".{name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                data = memoryview(text.encode())
                while data:
                    data = data[os.write(descriptor, data) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(temporary, self._path(name))
        except BaseException:
            os.unlink(temporary)
            raise


def split(url: str) -> tuple[str, int]:
    """Host and port of ``https://host:port``. Raises InvalidInput."""
    from urllib.parse import urlsplit

    from isola.errors import InvalidInput

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORT
    except ValueError:
        host, port = None, 0
        parts = urlsplit("")
    if parts.scheme != "https" or not host or parts.path.strip("/") or parts.query or "@" in parts.netloc:
        raise InvalidInput(f"{url!r} is not the address of a server", remedy="write it as in https://192.0.2.1:8443")
    return host, port


def address(text: str) -> str:
    """The URL for ``192.0.2.1``, ``host:8443`` or ``[2001:db8::1]:8443``. Raises InvalidInput."""
    if "://" not in text:
        text = f"https://[{text}]" if text.count(":") > 1 and not text.startswith("[") else f"https://{text}"
    host, port = split(text)
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _entry(found: object, path: str) -> dict[str, str]:
    entry: Mapping[object, object] = found if isinstance(found, dict) else {}
    if not isinstance(entry.get("url"), str) or not isinstance(entry.get("fingerprint"), str):
        raise _damaged(path, ValueError("a remote has no address"))
    return {str(key): str(value) for key, value in entry.items()}


def _damaged(path: str, error: Exception) -> Exception:
    from isola.errors import HostFailure

    return HostFailure(f"{path} cannot be read", evidence=str(error), remedy="repair it, or move it away")
