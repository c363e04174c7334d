"""Paths of the API."""

from __future__ import annotations

ROOT = "/1.0"


def short(address: str) -> str:
    """``instances/web1`` for ``/1.0/instances/web1``, to be displayed."""
    return address.removeprefix(f"{ROOT}/")
