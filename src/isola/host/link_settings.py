"""Kernel settings of links, below ``/proc/sys/net`` of the current namespace."""

from __future__ import annotations

import os
from pathlib import Path

from isola.errors import HostFailure

_NET = Path("/proc/sys/net")
_NO_LINKS = frozenset(("all", "default", "", ".", ".."))


def has_ipv6() -> bool:
    """Whether this kernel supports IPv6."""
    return (_NET / "ipv6").exists()


def links() -> list[str]:
    """Names of all links: the kernel keeps a directory of settings for each."""
    return [name for name in os.listdir(_NET / "ipv4/conf") if name not in _NO_LINKS]


def is_link(name: str) -> bool:
    """Whether a link of this name exists, without starting a process."""
    return "/" not in name and name not in _NO_LINKS and (_NET / "ipv4/conf" / name).exists()


def prepare_router(link: str, *, ipv6: bool) -> None:
    """Settings of a link on which this host is the router."""
    settings = {"accept_ra": "0", "autoconf": "0", "accept_dad": "0", "disable_ipv6": "0" if ipv6 else "1"}
    for name, value in settings.items() if has_ipv6() else ():
        _set(f"ipv6/conf/{link}/{name}", value)


def prepare_loop(near: str, far: str, *, ipv6: bool) -> None:
    """Settings of a pair on which packets come back to this host."""
    for link in (near, far):
        prepare_router(link, ipv6=ipv6)
    _set(f"ipv4/conf/{far}/rp_filter", "2")  # the way back to a sender is not this link
    forward(far, ipv4=True, ipv6=ipv6)


def forward(link: str, *, ipv4: bool, ipv6: bool) -> None:
    """Enable forwarding between this link and others for the named address families; disable it for the other."""
    if ipv4:
        _set("ipv4/ip_forward", "1")
    _set(f"ipv4/conf/{link}/forwarding", "1" if ipv4 else "0")
    if ipv6:
        # While forwarding is enabled, the kernel ignores router advertisements unless ``accept_ra`` is 2.
        for conf in (_NET / "ipv6/conf").iterdir():
            if _get(f"ipv6/conf/{conf.name}/accept_ra") == "1":
                _set(f"ipv6/conf/{conf.name}/accept_ra", "2")
        _set("ipv6/conf/all/forwarding", "1")
    if has_ipv6():
        _set(f"ipv6/conf/{link}/forwarding", "1" if ipv6 else "0")


def enable_ndp_proxy(link: str) -> None:
    """Answer NDP requests on a link for the addresses that are proxied there."""
    _set(f"ipv6/conf/{link}/proxy_ndp", "1")


def _get(name: str) -> str:
    try:
        return (_NET / name).read_text().strip()
    except OSError:
        return ""


def _set(name: str, value: str) -> None:
    """Write only if the value differs, because writing some of these settings resets others."""
    if _get(name) == value:
        return
    try:
        (_NET / name).write_text(value)
    except OSError as error:
        raise HostFailure(f"Cannot set net.{name.replace('/', '.')}", evidence=str(error)) from error
