"""Addresses that are reached alike from everywhere, and those that only this host or its cloud can reach. Pure."""

from __future__ import annotations

import ipaddress

METADATA4 = ("169.254.169.254", "169.254.170.2", "169.254.170.23")
METADATA6 = (
    "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254",
    "64:ff9b::a9fe:a9fe", "64:ff9b::a9fe:aa02", "64:ff9b::a9fe:aa17",
)  # fmt: skip
"""Where clouds tell the secrets of the machine to any program that asks: EC2 and those like it, ECS, EKS, GCE.

The last three are those of IPv4 where the host, or a router of its, translates between the protocols (RFC 6052).
"""
_METADATA = frozenset(map(ipaddress.ip_address, (*METADATA4, *METADATA6)))
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
_V4 = (1 << 32) - 1


def is_outside(address: str) -> bool:
    """Whether an address is neither of this machine alone, nor of its link alone, nor of a metadata service.

    Private networks are outside: instances reach them as well. Raises ValueError unless it is an address.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if found in _METADATA:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if inner is None and (found in _TRANSLATED or int(found) <= _V4):
            inner = ipaddress.IPv4Address(int(found) & _V4)
        if inner is not None and not is_outside(str(inner)):
            return False
    near = found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified
    return not near and not (found.version == 4 and found.packed[0] == 0)
