"""What a caller may see and change of the trust store."""

from __future__ import annotations

from dataclasses import replace

from isola.model.caller import Caller
from isola.model.certificate import Certificate


def may_see(caller: Caller, certificate: Certificate) -> bool:
    """Those restricted to projects see their own."""
    return caller.admin or (caller.trusted and certificate.fingerprint == caller.name)


def refusal_of_change(caller: Caller, before: Certificate, after: Certificate) -> str:
    """Why the caller may not change it so; empty where it may.

    Who is restricted may put a new certificate in place of its own and change nothing else: it cannot raise itself.
    """
    if caller.admin:
        return ""
    if not may_see(caller, before):
        return "Only the client's own certificate may be changed"
    renewed = replace(before, certificate=after.certificate)
    return "" if after == renewed else "Only the certificate itself may be changed, nothing of what it is allowed"
