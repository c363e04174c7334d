"""Listening TCP sockets."""

from __future__ import annotations

import errno
import socket

from isola.errors import HostFailure, InUse
from isola.model.endpoint import Endpoint

_BACKLOG = 1024


def listen(endpoint: Endpoint) -> list[socket.socket]:
    """A listening socket; dual-stack for the wildcard address. Raises InUse, HostFailure."""
    if not endpoint.host:
        return [_dual_stack(endpoint)]
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    return [_bound(endpoint, family, endpoint.host, both=endpoint.host == "::")]


def _dual_stack(endpoint: Endpoint) -> socket.socket:
    try:
        return _bound(endpoint, socket.AF_INET6, "::", both=True)
    except HostFailure as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            return _bound(endpoint, socket.AF_INET, "0.0.0.0", both=False)  # a kernel without IPv6
        raise


def _bound(endpoint: Endpoint, family: socket.AddressFamily, host: str, *, both: bool) -> socket.socket:
    try:
        made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise _refused(endpoint, error) from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not both))
        made.bind((host, endpoint.port))
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        raise _refused(endpoint, error) from error
    return made


def _refused(endpoint: Endpoint, error: OSError) -> HostFailure | InUse:
    if error.errno == errno.EADDRINUSE:
        return InUse(
            f"The address {endpoint} is in use",
            evidence="another program listens on it",
            remedy="choose another port, or stop that program",
            field="config.core.https_address",
        )
    remedy = ""
    if error.errno == errno.EADDRNOTAVAIL:
        remedy = "choose an address of this host; ':8443' listens on all of them"
    return HostFailure(
        f"Cannot listen on {endpoint}",
        evidence=error.strerror or str(error),
        remedy=remedy,
        field="config.core.https_address",
    )
