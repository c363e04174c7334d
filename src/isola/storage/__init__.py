"""Storage: pools and volumes."""

from isola.storage.capabilities import Feature, StorageCapabilities
from isola.storage.driver import VolumeDriver
from isola.storage.layers import LayerStore, Unpack
from isola.storage.pools import Pools
from isola.storage.verbs import PoolVerbs
from isola.storage.volumes import Volumes, VolumeUsage

__all__ = [
    "Feature",
    "LayerStore",
    "PoolVerbs",
    "Pools",
    "StorageCapabilities",
    "Unpack",
    "VolumeDriver",
    "VolumeUsage",
    "Volumes",
]
