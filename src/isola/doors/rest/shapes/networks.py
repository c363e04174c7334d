"""Networks, leases, and the host's own links among them."""

from __future__ import annotations

from collections.abc import Sequence

from isola.model.network import Lease, Network
from isola.model.reference import DEFAULT_PROJECT


def network_json(network: Network, used_by: Sequence[str]) -> dict[str, object]:
    """A managed network."""
    return _shape(
        network.name,
        network.driver,
        managed=True,
        config=_shown(network),
        description=network.description,
        used_by=used_by,
        status="Created" if network.ready else "Errored",
        project=network.project,
    )


def link_json(name: str, kind: str) -> dict[str, object]:
    """A link of the host that belongs to no managed network."""
    return _shape(name, kind, managed=False, config={}, description="", used_by=(), status="", project=DEFAULT_PROJECT)


def lease_json(lease: Lease) -> dict[str, object]:
    """An address in use."""
    return {
        "hostname": lease.hostname,
        "hwaddr": lease.mac,
        "address": lease.address,
        "type": lease.type,
        "location": "none",
    }


def writable(network: Network) -> dict[str, object]:
    """The fields that PUT replaces; the entity tag is computed of them."""
    return {"config": _shown(network), "description": network.description}


def _shown(network: Network) -> dict[str, str]:
    """The configuration without the daemon's internal keys."""
    return {key: value for key, value in network.config.items() if not key.startswith("volatile.")}


def _shape(
    name: str,
    kind: str,
    *,
    managed: bool,
    config: dict[str, str],
    description: str,
    used_by: Sequence[str],
    status: str,
    project: str,
) -> dict[str, object]:
    return {
        "name": name,
        "type": kind,
        "managed": managed,
        "config": config,
        "description": description,
        "used_by": list(used_by),
        "status": status,
        "locations": ["none"] if managed else [],
        "project": project,
    }
