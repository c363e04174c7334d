"""What belongs to an instance wherever it runs, and what a daemon calls its own on a host."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache

ID_RANGE_SIZE = 65536
_OWN_LINK = re.compile(r"(?!all$|default$)[A-Za-z](?:[A-Za-z0-9.-]{0,13}[A-Za-z0-9])?", re.ASCII)
"""Names of networks that their links have too."""
_LONGEST_LINK = 15
_ALIAS = re.compile(r"isola(-[0-9a-f]{4})?:.+")


NO_MEMBER = "none"
"""Where a thing lives that no member of a cluster has claimed."""


@dataclass(frozen=True, slots=True)
class IdRange:
    """Host user and group ids ``base .. base+size-1`` that stand for ``0 .. size-1`` inside."""

    base: int
    size: int = ID_RANGE_SIZE

    def outside(self, inner: int) -> int:
        """Host id of an id inside; ids beyond the range become the range's nobody (65534)."""
        return self.base + (inner if 0 <= inner < self.size else 65534)

    def inside(self, outer: int) -> int:
        """Id inside of a host id; foreign ids show as nobody (65534)."""
        return outer - self.base if self.holds(outer) else 65534

    def holds(self, outer: int) -> bool:
        """Whether a host id stands for one inside."""
        return self.base <= outer < self.base + self.size


PRIVILEGED = IdRange(0)
"""The host's own ids: of instances without a user namespace."""


@dataclass(frozen=True, slots=True)
class HostNames:
    """Names of one daemon's things on a host shared with other daemons.

    ``tag`` is ``isola`` for the daemon in the default directory and ``isola-<4 hex digits>`` for any other.
    """

    tag: str

    @classmethod
    def of_directory(cls, directory: str, default: str = "/var/lib/isola") -> HostNames:
        """Names for the daemon whose state lives in ``directory`` (absolute, resolved)."""
        if directory == default:
            return cls("isola")
        return cls("isola-" + hashlib.sha256(directory.encode()).hexdigest()[:4])

    @property
    def short(self) -> str:
        """Prefix of link names: ``is`` or ``is<4 hex digits>``."""
        return "is" + self.tag.removeprefix("isola").removeprefix("-")

    def cgroup(self, instance_id: str = "") -> str:
        """Cgroup path below every hierarchy's root, e.g. ``/isola/3f2a...``."""
        return f"/{self.tag}/{instance_id}".rstrip("/")

    def bridge(self, network: str, attempt: int = 0) -> str:
        """Link name of a network's bridge: its own name where that can be a link's and is free of other daemons.

        Further attempts give other names, for the case that a digest is taken.
        """
        if self.tag == "isola" and _OWN_LINK.fullmatch(network):
            return network
        text = f"{network}/{attempt}" if attempt else network
        return f"{self.short}-{_digest(text, _LONGEST_LINK - 1 - len(self.short))}"

    def alias(self, network: str) -> str:
        """What a network's bridge says of itself."""
        return f"{self.tag}:{network}"

    @staticmethod
    def is_network(alias: str) -> bool:
        """Whether a link that says this of itself is the bridge of a network, of whatever daemon."""
        return _ALIAS.fullmatch(alias) is not None

    @property
    def loop(self) -> tuple[str, str]:
        """The pair of links over which the host receives packets again: where they are sent, where they arrive."""
        return f"{self.short}-gate", f"{self.short}-gate-in"

    def veth(self, instance_id: str, device: str) -> str:
        """Host end of an instance's NIC; at most 15 characters."""
        return f"{self.short}{_digest(instance_id + device, 8)}"

    def table(self, network: str) -> str:
        """nftables table of a network; no tag or name holds the slash, so that no two daemons' tables can meet."""
        return f"{self.tag}/{network}"

    def device_table(self, instance_id: str, device: str) -> str:
        """nftables table of an instance's device."""
        return f"{self.tag}.{_digest(f'{instance_id}/{device}', 12)}"


@lru_cache(4096)
def _digest(value: str, length: int) -> str:
    return hashlib.sha256(value.encode()).hexdigest()[:length]
