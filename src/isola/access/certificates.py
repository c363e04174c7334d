"""Which certificates of the trust store a caller may see and change."""

from __future__ import annotations

from dataclasses import replace

from isola.model.caller import Caller
from isola.model.certificate import Certificate


def may_see(caller: Caller, certificate: Certificate) -> bool:
    """Callers that are restricted to projects may see their own certificate only."""
    return caller.admin or (caller.trusted and certificate.fingerprint == caller.name)


def refusal_of_change(caller: Caller, before: Certificate, after: Certificate) -> str:
    """Why the caller may not make this change; empty if it may.

    A restricted caller may replace its own certificate but nothing else, so that it cannot extend its permissions.
    """
    if caller.admin:
        return ""
    if not may_see(caller, before):
        return "Only the client's own certificate may be changed"
    renewed = replace(before, certificate=after.certificate)
    return "" if after == renewed else "Only the certificate itself may be changed, not its permissions"
