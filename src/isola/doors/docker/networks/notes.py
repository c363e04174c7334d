"""What clients ask for with a network and expect back, and has no meaning to it: kept in its record's notes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from isola.model.network import Network

_DOOR = "docker"
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", re.ASCII)
"""What networks can be called everywhere."""
_LABELS = "user."


@dataclass(frozen=True, slots=True)
class NetworkNote:
    """Of a network that was created through this door; empty for all others."""

    options: Mapping[str, str] = field(default_factory=dict)
    pools: Sequence[Mapping[str, object]] = ()
    """``IPAM.Config`` as given."""
    bare_labels: Sequence[str] = ()
    """Labels without a value: keys without a value count as absent."""
    attachable: bool = False
    ipam_options: Mapping[str, str] | None = None
    """``IPAM.Options`` as given."""
    name: str = ""
    """What clients call it, if that cannot be its name here, as ``my network``."""
    ipv4: bool = True
    """Of a configuration: whether networks that are created from it have IPv4."""
    ipv6: bool = False
    """The same with IPv6."""
    ours: bool = False
    """It was created through this door."""

    def encoded(self) -> dict[str, str]:
        """Under the name of this door, as a record keeps it."""
        value = {
            "options": dict(self.options),
            "pools": [dict(pool) for pool in self.pools],
            "bare_labels": list(self.bare_labels),
            "attachable": self.attachable,
            "ipam_options": None if self.ipam_options is None else dict(self.ipam_options),
            "name": self.name,
            "ipv4": self.ipv4,
            "ipv6": self.ipv6,
        }
        return {_DOOR: orjson.dumps(value).decode()}


def note_of(network: Network) -> NetworkNote:
    """The note, or an empty one."""
    text = network.notes.get(_DOOR)
    return NetworkNote(**orjson.loads(text), ours=True) if text else NetworkNote()


def labels_of(network: Network) -> dict[str, str]:
    """Keys ``user.*``, and the labels without a value."""
    keys = {key.removeprefix(_LABELS): value for key, value in network.config.items() if key.startswith(_LABELS)}
    return dict(sorted((dict.fromkeys(note_of(network).bare_labels, "") | keys).items()))


def own_name(name: str) -> str:
    """The name of the record for a name of Docker, which may have any characters."""
    return name if NAME.fullmatch(name) else f"docker-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def label_keys(labels: Mapping[str, str]) -> dict[str, str]:
    """Configuration keys of labels with a value."""
    return {f"{_LABELS}{name}": value for name, value in labels.items() if value}
