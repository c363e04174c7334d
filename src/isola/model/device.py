"""Devices of instances: what is remembered of each beside its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class DeviceState:
    """One device as an instance has it, whether it runs or not; part of the instance's record."""

    kind: str
    """The device's ``type``: ``nic``, ``disk``, ``proxy``, ..."""
    config: Mapping[str, str] = field(default_factory=dict)
    """The expanded configuration it was made from, without ``type``; empty in what Isola 0.1 has recorded."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What was chosen for it and stays with it, by names of its driver's: ``hwaddr``, ``ipv4``."""

    def with_facts(self, **facts: str) -> DeviceState:
        """The same with further facts; an empty one takes a fact away."""
        merged = {**self.facts, **facts}
        return replace(self, facts={key: value for key, value in merged.items() if value})
