"""Interfaces of a sandbox as JSON. Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from isola.model.instance import Address, InterfaceState


def encode(found: Sequence[InterfaceState]) -> bytes:
    """Their names and addresses."""
    return json.dumps(
        {each.name: [dataclasses.astuple(address) for address in each.addresses] for each in found}
    ).encode()


def decode(text: bytes) -> tuple[InterfaceState, ...]:
    """Raises ValueError."""
    try:
        return tuple(
            InterfaceState(name, tuple(Address(*map(str, each)) for each in addresses))
            for name, addresses in json.loads(text).items()
        )
    except (AttributeError, TypeError) as error:
        raise ValueError(f"not a list of interfaces: {error}") from error
