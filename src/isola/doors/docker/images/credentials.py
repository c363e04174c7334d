"""Credentials in requests: ``X-Registry-Auth``."""

from __future__ import annotations

import base64

import orjson

from isola.doors.docker.request import Request
from isola.images.registry.credentials import ANONYMOUS, Credentials, credentials_of

_LONGEST = 256 << 10


def registry_auth(request: Request) -> Credentials:
    """Of the header; what cannot be read counts as nothing, as in Docker."""
    text = request.http.headers.get("X-Registry-Auth", "")[:_LONGEST]
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        fields = orjson.loads(decoded)
    except ValueError:
        return ANONYMOUS
    return credentials_of(fields) if isinstance(fields, dict) else ANONYMOUS
