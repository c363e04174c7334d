"""TCP sockets that wait for connections."""

from __future__ import annotations

import errno
import socket

from isola.errors import HostFailure, InUse
from isola.model.endpoint import Endpoint

_BACKLOG = 1024


def listen(wanted: Endpoint) -> list[socket.socket]:
    """One socket, of both families where the address stands for all. Raises InUse, HostFailure."""
    if not wanted.host:
        return [_both(wanted)]
    family = socket.AF_INET6 if ":" in wanted.host else socket.AF_INET
    return [_bound(wanted, family, wanted.host, both=wanted.host == "::")]


def _both(wanted: Endpoint) -> socket.socket:
    try:
        return _bound(wanted, socket.AF_INET6, "::", both=True)
    except HostFailure as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            return _bound(wanted, socket.AF_INET, "0.0.0.0", both=False)  # a kernel without IPv6
        raise


def _bound(wanted: Endpoint, family: socket.AddressFamily, host: str, *, both: bool) -> socket.socket:
    try:
        made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise _refused(wanted, error) from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not both))
        made.bind((host, wanted.port))
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        raise _refused(wanted, error) from error
    return made


def _refused(wanted: Endpoint, error: OSError) -> HostFailure | InUse:
    if error.errno == errno.EADDRINUSE:
        return InUse(
            f"The address {wanted} is in use",
            evidence="another program listens there",
            remedy="choose another port, or end that program",
            field="config.core.https_address",
        )
    remedy = ""
    if error.errno == errno.EADDRNOTAVAIL:
        remedy = "choose an address of this host; ':8443' stands for all of them"
    return HostFailure(
        f"Cannot listen at {wanted}",
        evidence=error.strerror or str(error),
        remedy=remedy,
        field="config.core.https_address",
    )
