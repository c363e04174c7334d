"""Configs and secrets: files that are written into an instance before it is started."""

from __future__ import annotations

from pathlib import Path

from isola.compose.instances import path_of
from isola.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from isola.client import Client
    from isola.compose.application import Application

_LARGEST = 1 << 20
_READABLE = 0o444


def push(client: Client, application: Application, service: str, instance: str) -> None:
    """Write all that a service is granted. Raises InvalidInput for content that is missing or too large."""
    found = application.services[service]
    for kind in ("configs", "secrets"):
        for grant in found.get(kind, ()):
            data = content(application, kind, grant["source"])
            path = path_of(kind, grant)
            files = client.instances.files(instance)
            _make_directories(files, path)
            uid, gid = (int(grant.get(key) or 0) for key in ("uid", "gid"))
            files.write(path, data, uid=uid, gid=gid, mode=grant.get("mode", _READABLE))


def check(application: Application, service: str) -> None:
    """Raises InvalidInput as ``push`` does, without an instance."""
    for kind in ("configs", "secrets"):
        for grant in application.services[service].get(kind, ()):
            content(application, kind, grant["source"])


def content(application: Application, kind: str, name: str) -> bytes:
    """What a config or secret holds. Raises InvalidInput, also if it is too large."""
    stored, where = getattr(application, kind)[name], f"{kind}.{name}"
    if stored.get("external"):
        raise InvalidInput(f"{where} is external, and the server stores no {kind}", field=where)
    if "content" in stored:
        data = stored["content"].encode()
    elif "environment" in stored:
        value = application.variables.get(stored["environment"])
        if value is None:
            raise InvalidInput(f"Variable {stored['environment']} of {where} is not set", field=where)
        data = value.encode()
    else:
        data = _read(Path(stored["file"]), where)
    if len(data) > _LARGEST:
        raise InvalidInput(f"{where} is too large", evidence=f"over {_LARGEST} bytes", field=where)
    return bytes(data)


def _read(file: Path, where: str) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(_LARGEST + 1)
    except OSError as error:
        raise InvalidInput(f"Cannot read {file} of {where}", evidence=error.strerror or "", field=where) from None


def _make_directories(files: Any, path: str) -> None:
    parts = path.split("/")[1:-1]
    for end in range(1, len(parts) + 1):
        files.make_directory("/" + "/".join(parts[:end]), mode=0o755)
