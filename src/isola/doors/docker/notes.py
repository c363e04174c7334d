"""What Docker's clients ask for and expect back, and has no meaning to an instance: kept in its record's notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from isola.model.instance import Config, Instance

DOOR = "docker"
_LABELS = "user."


@dataclass(frozen=True, slots=True)
class Note:
    """Of a container that was created through this door; empty for all others."""

    image: str = ""
    """As the client wrote it."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The fields of ``Config`` as given."""
    host: Mapping[str, Any] = field(default_factory=dict)
    """The fields of ``HostConfig`` as given."""
    bare_labels: tuple[str, ...] = ()
    """Labels without a value: keys without a value count as absent."""

    def encoded(self) -> dict[str, str]:
        """For ``InstanceRequest.notes``."""
        labels = list(self.bare_labels)
        value = {"image": self.image, "config": self.config, "host": self.host, "bare_labels": labels}
        return {DOOR: orjson.dumps(value).decode()}


def note_of(instance: Instance) -> Note:
    """The note, or an empty one."""
    text = instance.notes.get(DOOR)
    if not text:
        return Note()
    found = orjson.loads(text)
    return Note(found["image"], found["config"], found["host"], tuple(found["bare_labels"]))


def labels_of(instance: Instance, config: Config, note: Note | None = None) -> dict[str, str]:
    """Labels: keys ``user.*`` of the expanded configuration, and those without a value."""
    bare = (note_of(instance) if note is None else note).bare_labels
    return dict.fromkeys(bare, "") | {
        key.removeprefix(_LABELS): value for key, value in config.items() if key.startswith(_LABELS)
    }


def label_keys(labels: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Configuration keys of labels, and the labels without a value."""
    keys = {f"{_LABELS}{name}": value for name, value in labels.items() if value}
    return keys, tuple(name for name, value in labels.items() if not value)
