"""Platforms as Docker writes them (``linux/arm64/v8``), and the variables of a build that are made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from isola.errors import InvalidInput, Unsupported
from isola.images.architecture import architecture, of_platform
from isola.images.architecture import platform as oci_platform


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system and an architecture, with OCI's names."""

    architecture: str
    variant: str = ""
    os: str = "linux"

    @classmethod
    def of_kernel(cls, name: str) -> Platform:
        """From the kernel's name of an architecture: ``x86_64``."""
        found = oci_platform(architecture(name))
        return cls(found["architecture"], found.get("variant", ""))

    @classmethod
    def parse(cls, text: str) -> Platform:
        """``linux/amd64``, ``amd64``, ``linux/arm/v7``. Raises InvalidInput, Unsupported."""
        parts = text.strip().lower().split("/")
        if len(parts) == 1 and parts[0] != "linux":
            parts = ["linux", *parts]
        if len(parts) not in (2, 3) or not all(parts):
            raise InvalidInput(f'"{text[:80]}" is an invalid platform specifier', field="platform")
        if parts[0] != "linux":
            raise Unsupported(f"Images for {parts[0][:40]} cannot be built", field="platform")
        variant = parts[2] if len(parts) == 3 else ""
        kernel = of_platform(architecture_of(parts[1]), variant)
        return cls(oci_platform(kernel)["architecture"], "" if parts[1:] == ["arm64", "v8"] else variant)

    @property
    def kernel(self) -> str:
        """The kernel's name of the architecture."""
        return of_platform(self.architecture, self.variant)

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


def architecture_of(name: str) -> str:
    """OCI's name of an architecture, which may be given by the kernel's."""
    return oci_platform(architecture(name))["architecture"] if name in ("x86_64", "aarch64", "armhf", "i386") else name


def variables(build: Platform, target: Platform, stage: str = "") -> Mapping[str, str]:
    """What is predefined, for stages that ask for it by ``ARG``; ``stage``: the one that the request names."""
    found = {"TARGETSTAGE": stage or "default"}
    for name, platform in (("BUILD", build), ("TARGET", target)):
        found |= {
            f"{name}PLATFORM": str(platform),
            f"{name}OS": platform.os,
            f"{name}ARCH": platform.architecture,
            f"{name}VARIANT": platform.variant,
        }
    return found
