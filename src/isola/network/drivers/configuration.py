"""Configurations: settings that other networks are created with, without anything on the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from isola.errors import Unsupported
from isola.host import Host
from isola.model.network import Endpoint, Lease, Network, Nic
from isola.model.probe import Probe
from isola.network.driver import NetworkCapabilities, NetworkDriver
from isola.settings import Setting, Settings, text

SETTINGS = Settings("network", Setting("user.*", text, "User-defined, not interpreted."))


class Configurations(NetworkDriver):
    """A record only. What it says for a network is the note of the door that made it."""

    in_projects = True
    capabilities = NetworkCapabilities(ports=False, nics=False)
    settings = SETTINGS

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """Needs nothing of the host."""
        return Probe(True, version="1")

    async def complete(
        self, config: Mapping[str, str], others: Sequence[Network], previous: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Raises InvalidInput."""
        SETTINGS.validate(config)
        return {key: value for key, value in config.items() if value != ""}

    async def _start(self, network: Network, nics: Sequence[Nic]) -> None:
        """There is nothing to start."""

    async def _stop(self, network: Network) -> None:
        """Nor to stop."""

    async def _register(self, network: Network, nic: Nic) -> None:
        raise _refusal(network)

    async def _unregister(self, network: Network, nic: Nic) -> None:
        """No NIC can have been registered."""

    async def _attach(self, network: Network, nic: Nic, endpoint: Endpoint) -> None:
        raise _refusal(network)

    async def _detach(self, network: Network, nic: Nic) -> None:
        """No NIC can have been attached."""

    async def leases(self, network: Network) -> Sequence[Lease]:
        """None."""
        return ()

    async def state(self, network: Network) -> Mapping[str, object]:
        """None: there is no link."""
        return {}

    async def clean(self, networks: Sequence[Network], host_links: Sequence[str]) -> None:
        """There is nothing on the host."""


def _refusal(network: Network) -> Unsupported:
    return Unsupported(
        f"Network {network.name!r} holds settings for other networks: no NIC can be on it",
        remedy="use a network that was created from it",
    )


DRIVER = Configurations
