"""Names of Debian images: ``debian/12``, ``debian/trixie/cloud``, ``debian/13/cloud/vm``. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from isola.model.isolation import VIRTUAL_MACHINE

SUITES: Mapping[str, str] = {"11": "bullseye", "12": "bookworm", "13": "trixie", "sid": "sid"}
NUMBERS: Mapping[str, str] = {suite: number for number, suite in SUITES.items()}
_OLD = frozenset({"bullseye"})
"""Releases that have containers without cloud-init alone."""


@dataclass(frozen=True, slots=True)
class Name:
    """What a name says of an image."""

    suite: str
    cloud: bool = False
    """With cloud-init."""
    disk: bool = False
    """Of a virtual machine."""

    @property
    def text(self) -> str:
        """With the release by number."""
        return f"debian/{NUMBERS[self.suite]}{'/cloud' * self.cloud}{'/vm' * self.disk}"

    @property
    def description(self) -> str:
        what = "the disk of a virtual machine" if self.disk else "a system with systemd"
        added = " and cloud-init" if self.cloud else ""
        return f"Debian {NUMBERS[self.suite]} ({self.suite}), {what}{added}, built from Debian's packages"

    def of_type(self, type: str) -> Name:
        """The same for this type of instances."""
        return replace(self, disk=type == VIRTUAL_MACHINE) if self.suite not in _OLD else self


def parse(text: str) -> Name | None:
    """None if no image has this name."""
    first, *parts = text.split("/", 4)
    if first != "debian" or not parts or parts[1:] not in ([], ["cloud"], ["vm"], ["cloud", "vm"]):
        return None
    suite = SUITES.get(parts[0], parts[0])
    if suite not in NUMBERS or (suite in _OLD and parts[1:]):
        return None
    return Name(suite, "cloud" in parts, "vm" in parts)


def offered() -> dict[str, str]:
    """Name -> description: releases by number and by name, kinds by number."""
    found = {}
    for number, suite in SUITES.items():
        for release in dict.fromkeys((number, suite)):
            found[f"debian/{release}"] = Name(suite).description
        if suite not in _OLD:
            for cloud, disk in ((True, False), (False, True), (True, True)):
                name = Name(suite, cloud, disk)
                found[name.text] = name.description
    return found
