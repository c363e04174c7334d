"""Caches of builds beside the daemon's own: where results of instructions are imported from, and exported to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CacheType(StrEnum):
    """BuildKit's types, as ``type=`` of its options names them, and one more."""

    REGISTRY = "registry"
    """Under a name of its own, or in an image."""
    LOCAL = "local"
    """In a directory of the client, as an OCI image layout."""
    INLINE = "inline"
    """In the image that is built."""
    IMAGE = "image"
    """In an image of the project; only imported."""


@dataclass(frozen=True, slots=True)
class CacheImport:
    """``name``: of an image or cache of a registry, or of a directory that the client sends."""

    type: CacheType
    name: str


@dataclass(frozen=True, slots=True)
class CacheExport:
    """``name``: in a registry; of a local one what the client knows it by."""

    type: CacheType
    name: str = ""
    everything: bool = True
    """Results of all stages (``mode=max``), in place of those of the target and the stages that it is based on."""
    ignore_error: bool = False
    """The build succeeds although the export fails."""
