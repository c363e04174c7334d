"""Architectures: the kernel's names (which LXD uses) and OCI's."""

from __future__ import annotations

from isola.errors import InvalidInput, Unsupported

_OCI = {
    "x86_64": ("amd64", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armv7l": ("arm", "v7"),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
}
_OTHER_NAMES = {
    "amd64": "x86_64", "x86-64": "x86_64", "i386": "i686", "i586": "i686", "arm64": "aarch64", "armhf": "armv7l",
    "ppc64el": "ppc64le",
}  # fmt: skip
_ALSO_RUNS = {"x86_64": ("i686",), "aarch64": ("armv7l",)}


def architecture(name: str) -> str:
    """The kernel's name of an architecture given by its Debian, OCI or kernel name. Raises InvalidInput."""
    known = _OTHER_NAMES.get(name, name)
    if known not in _OCI:
        raise InvalidInput(
            f"Unknown architecture {name[:40]!r}", field="architecture", remedy=f"one of: {', '.join(_OCI)}"
        )
    return known


def platform(name: str) -> dict[str, str]:
    """The ``architecture``, ``os`` and ``variant`` of an OCI configuration."""
    oci, variant = _OCI[name]
    return {"architecture": oci, "os": "linux"} | ({"variant": variant} if variant else {})


def of_platform(name: str, variant: str = "") -> str:
    """The kernel's name of an OCI platform; the first images gave it themselves. Raises InvalidInput."""
    if name == "arm":
        return "armv7l"  # which also runs v5 and v6
    for known, (oci, _) in _OCI.items():
        if name in (oci, known):
            return known
    raise InvalidInput(
        f"Unknown architecture {'/'.join(filter(None, (name[:40], variant[:40])))!r}",
        field="architecture",
        remedy=f"one of: {', '.join(oci for oci, _ in _OCI.values())}",
    )


def debian_architecture(name: str) -> str:
    names = {"i686": "i386", "armv7l": "armhf", "ppc64le": "ppc64el"}
    return names.get(name, _OCI[name][0])


def check_runs(image: str, host: str) -> None:
    """Raise Unsupported if the host's kernel cannot run the image's programs."""
    host = _OTHER_NAMES.get(host, host)
    if image != host and image not in _ALSO_RUNS.get(host, ()):
        raise Unsupported(
            f"The image is for {image}, this host runs {host}", remedy="use an image made for this architecture"
        )
