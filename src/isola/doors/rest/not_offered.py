"""Parts of the LXD and Incus API that this server does not offer: answered with 501 and the reason, not with 404."""

from __future__ import annotations

from isola.errors import IsolaError, Unsupported


class MethodNotAllowed(IsolaError):
    """The path is known, the method is not."""

    code = "method_not_allowed"


_VOLUME = "storage-pools/*/volumes/*/*"
NOT_OFFERED: tuple[tuple[str, str], ...] = (
    (f"{_VOLUME}/backups", "Backups are"),
    ("storage-pools/*/buckets", "Storage buckets are"),
    ("network-acls", "Network ACLs are"),
    ("network-zones", "Network zones are"),
    ("network-allocations", "Network allocations are"),
    ("network-integrations", "Network integrations are"),
    ("network-address-sets", "Network address sets are"),
    ("networks/*/forwards", "Network forwards are"),
    ("networks/*/load-balancers", "Network load balancers are"),
    ("networks/*/peers", "Network peers are"),
    ("cluster/groups", "Clustering is"),
    ("cluster/certificate", "Clustering is"),
    ("cluster/members/*/state", "Clustering is"),
    ("projects/*/access", "Access lists are"),
    ("metrics", "Metrics are"),
    ("instances/*/rebuild", "Rebuilding an instance is"),
    ("instances/*/access", "Access lists are"),
    ("instances/*/debug", "Dumping the memory of an instance is"),
    ("containers/*/rebuild", "Rebuilding an instance is"),
    ("virtual-machines/*/rebuild", "Rebuilding an instance is"),
)
"""Paths below ``/1.0/``, each with everything below it, and the subject of the message. ``*`` matches one component."""


def not_offered(path: str) -> Unsupported | None:
    """The error for a known path that is not offered; None for a path that the API does not have."""
    parts = path.strip("/").split("/")
    if parts[0] != "1.0":
        return None
    for pattern, what in NOT_OFFERED:
        components = pattern.split("/")
        below = parts[1 : len(components) + 1]
        if len(below) == len(components) and all(
            each in ("*", part) for each, part in zip(components, below, strict=True)
        ):
            return Unsupported(f"{what} not offered yet")
    return None
