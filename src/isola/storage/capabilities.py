"""Features of pools, and the reasons for missing ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class Feature(StrEnum):
    """Features that not every pool has."""

    QUOTA = "limits on the size of a volume"
    SEND = "sending a volume as a stream of changes"
    RECEIVE = "receiving a volume as a stream of changes"
    BLOCK = "volumes that are block devices"
    ENCRYPTION = "encryption"


NOT_YET: Mapping[Feature, str] = MappingProxyType(
    {
        Feature.SEND: "streams of changes are not offered yet: volumes are copied whole",
        Feature.RECEIVE: "streams of changes are not offered yet: volumes are copied whole",
        Feature.BLOCK: "volumes hold file systems",
        Feature.ENCRYPTION: "pools are not encrypted: use an encrypted device or file system",
    }
)


@dataclass(frozen=True, slots=True)
class StorageCapabilities:
    """Features that callers check instead of the driver's name."""

    shared_layers: bool = False
    """Volumes depend on the image layers, which must be kept as long as the volumes."""
    instant_copies: bool = False
    """Snapshots and copies are instant and share their data, whatever the size of the volume."""
    missing: Mapping[Feature, str] = field(default_factory=dict)
    """Features that no pool of this driver offers, with the reason."""
