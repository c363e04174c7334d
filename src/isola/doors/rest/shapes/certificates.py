"""Certificates of clients."""

from __future__ import annotations

from isola.doors.rest.shapes.times import moment
from isola.model.certificate import Certificate


def certificate_json(certificate: Certificate) -> dict[str, object]:
    shown = {"fingerprint": certificate.fingerprint, **writable(certificate)}
    return shown if certificate.created_at is None else {**shown, "created_at": moment(certificate.created_at)}


def writable(certificate: Certificate) -> dict[str, object]:
    """The fields that PUT replaces; the entity tag is computed of them."""
    return {
        "certificate": certificate.certificate,
        "name": certificate.name,
        "type": certificate.type,
        "restricted": certificate.restricted,
        "projects": list(certificate.projects),
        "description": certificate.description,
    }
