"""Storage: pools and volumes."""

from isola.storage.driver import StorageCapabilities, StorageDriver, Unpack
from isola.storage.pools import Pools

__all__ = ["Pools", "StorageCapabilities", "StorageDriver", "Unpack"]
