"""How the API addresses things."""

from __future__ import annotations

ROOT = "/1.0"


def short(address: str) -> str:
    """``instances/web1`` of ``/1.0/instances/web1``, for people."""
    return address.removeprefix(f"{ROOT}/")
