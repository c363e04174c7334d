"""Reading (as untrusted input) and writing ``metadata.yaml`` of LXD images."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from isola.errors import InvalidInput
from isola.images.architecture import architecture

METADATA_NAMES = ("metadata.yaml", "./metadata.yaml")
"""Possible names of the member in an image's tarball."""
MAX_SIZE = 256 << 10
_MAX_PROPERTIES = 500
_NONE: Mapping[str, str] = {}
_LAST_SECOND = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp())


@dataclass(frozen=True, slots=True)
class Metadata:
    """The contents of ``metadata.yaml``."""

    architecture: str
    """The kernel's name: ``x86_64``."""
    created_at: datetime
    expires_at: datetime | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    templates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Path in the instance -> events, template and its properties."""


def read(document: object) -> Metadata:
    """Parse ``metadata.yaml``. Raises InvalidInput with the wrong field."""
    if not isinstance(document, dict):
        raise _wrong(None, "is not a mapping")
    created = _seconds(document, "creation_date")
    if created is None:
        raise _wrong("creation_date", "is missing")
    return Metadata(
        architecture=architecture(_text(document.get("architecture"), "architecture")),
        created_at=created,
        expires_at=_seconds(document, "expiry_date"),
        properties=_properties(document.get("properties")),
        templates=_templates(document.get("templates")),
    )


def render(metadata: Metadata) -> bytes:
    """``metadata.yaml`` as text; reproducible."""
    document: dict[str, object] = {
        "architecture": metadata.architecture,
        "creation_date": int(metadata.created_at.timestamp()),
        "properties": dict(metadata.properties),
        "templates": dict(metadata.templates),
    }
    if metadata.expires_at is not None:
        document["expiry_date"] = int(metadata.expires_at.timestamp())
    return "".join(_lines(document)).encode()


def metadata_tarball(metadata: Metadata, files: Mapping[str, str] = _NONE) -> bytes:
    """The metadata tarball of a split image, with the templates' ``files``; reproducible."""
    members = {"metadata.yaml": render(metadata)} | {name: text.encode() for name, text in files.items()}
    packed = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(content), int(metadata.created_at.timestamp()), 0o644
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def _lines(document: Mapping[str, object]) -> Iterator[str]:
    for key, value in sorted(document.items()):
        if isinstance(value, Mapping) and value:
            yield f"{key}:\n"
            yield from (f"  {_flow(name)}: {_flow(value[name])}\n" for name in sorted(value))
        else:
            yield f"{key}: {_flow(value)}\n"


def _flow(value: object) -> str:
    """One line of YAML in which every string is quoted and ASCII."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, int):
        return str(value).lower()
    plain = (c if " " <= c <= "~" and c not in '"\\' else f"\\U{ord(c):08x}" for c in str(value))
    return '"' + "".join(plain) + '"'


def _properties(value: object) -> dict[str, str]:
    if value in (None, ""):
        return {}
    if not isinstance(value, dict) or len(value) > _MAX_PROPERTIES:
        raise _wrong("properties", f"is not a mapping of at most {_MAX_PROPERTIES} entries")
    return {
        _text(key, "properties"): _text(item, f"properties.{str(key)[:80]}", empty=True) for key, item in value.items()
    }


def _templates(value: object) -> dict[str, dict[str, Any]]:
    if value in (None, ""):
        return {}
    if not isinstance(value, dict):
        raise _wrong("templates", "is not a mapping")
    for path, template in value.items():
        _text(path, "templates")
        if not isinstance(template, dict):
            raise _wrong(f"templates.{str(path)[:80]}", "is not a mapping")
        name = _text(template.get("template"), f"templates.{str(path)[:80]}.template")
        if "/" in name or name in (".", ".."):
            raise _wrong(f"templates.{str(path)[:80]}.template", "is not a plain file name")
    return value


def _seconds(document: Mapping[str, Any], key: str) -> datetime | None:
    value = document.get(key)
    if value in (None, "", "0"):
        return None
    text = _text(value, key)
    if not (text.isascii() and text.isdigit() and len(text) < 13 and int(text) < _LAST_SECOND):
        raise _wrong(key, "is not a time in seconds since 1970")
    return datetime.fromtimestamp(int(text), UTC)


def _text(value: object, name: str, *, empty: bool = False) -> str:
    if not isinstance(value, str) or "\0" in value or not (value or empty):
        raise _wrong(name, "is missing" if value in (None, "") else "is not a string")
    return value


def _wrong(name: str | None, what: str) -> InvalidInput:
    where = f"metadata.yaml: {name}" if name else "metadata.yaml"
    return InvalidInput(f"{where} {what}", field=name, remedy="see the image format in the LXD documentation")
