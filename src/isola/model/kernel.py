"""Unikernels as images describe them: a kernel in the image's root, and the machine that it needs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from isola.errors import InvalidInput
from isola.model.image import TYPE_LABEL

UNIKERNEL = "unikernel"
"""The type of such images, and the isolation of their instances."""
PREFIX = "org.isola.unikernel."
"""Of labels: ``kernel``, ``initrd``, ``machine``, ``platform``."""
KERNEL, INITRD = "/unikernel/kernel", "/unikernel/initrd"
"""Where images have them, unless their labels name other files."""
MACHINES = ("q35", "pc", "microvm")
_LONGEST_PATH, _LONGEST_PLATFORM = 4096, 100


@dataclass(frozen=True, slots=True)
class Kernel:
    """What is started, and how."""

    path: str = KERNEL
    """Absolute, in the root."""
    initrd: str = ""
    """The same; empty: none."""
    machine: str = MACHINES[0]
    platform: str = ""
    """For which toolchain or library it was made; for display."""


def is_unikernel(labels: Mapping[str, str]) -> bool:
    """Whether an image with these labels is one."""
    return labels.get(TYPE_LABEL) == UNIKERNEL


def kernel_of(labels: Mapping[str, str]) -> Kernel:
    """From the labels of an image. Raises InvalidInput with the label."""
    machine = labels.get(f"{PREFIX}machine") or MACHINES[0]
    if machine not in MACHINES:
        raise _wrong("machine", f"{machine[:40]!r} is not {', '.join(MACHINES)}")
    return Kernel(
        _path(labels, "kernel") or KERNEL,
        _path(labels, "initrd"),
        machine,
        _platform(labels.get(f"{PREFIX}platform", "")),
    )


def labels_of(kernel: Kernel) -> dict[str, str]:
    """The labels that say the same; those with defaults are left out, except the machine."""
    found = {"machine": kernel.machine, "initrd": kernel.initrd, "platform": kernel.platform}
    if kernel.path != KERNEL:
        found["kernel"] = kernel.path
    return {f"{PREFIX}{name}": value for name, value in found.items() if value}


def _path(labels: Mapping[str, str], name: str) -> str:
    path = labels.get(f"{PREFIX}{name}", "")
    if path and (not path.startswith("/") or ".." in path.split("/") or "\0" in path or len(path) > _LONGEST_PATH):
        raise _wrong(name, f"{path[:80]!r} is not an absolute path without '..'")
    return path


def _platform(text: str) -> str:
    if len(text) > _LONGEST_PLATFORM or not text.isprintable():
        raise _wrong("platform", "is not a short line")
    return text


def _wrong(name: str, what: str) -> InvalidInput:
    return InvalidInput(f"The image's label {PREFIX}{name}: {what}", field=f"labels.{PREFIX}{name}")
