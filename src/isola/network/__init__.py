"""Network: networks, addresses, leases."""

from isola.network.driver import NetworkCapabilities, NetworkDriver
from isola.network.networks import Networks

__all__ = ["NetworkCapabilities", "NetworkDriver", "Networks"]
