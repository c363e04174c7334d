"""Network: networks, addresses, leases."""

from isola.network.driver import NetworkCapabilities, NetworkDriver
from isola.network.networks import Networks
from isola.network.verbs import NetworkVerbs

__all__ = ["NetworkCapabilities", "NetworkDriver", "NetworkVerbs", "Networks"]
