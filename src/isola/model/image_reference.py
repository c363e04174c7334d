"""Names of images in registries, as Docker writes them: ``[DOMAIN/]PATH[:TAG][@DIGEST]``.

A name without a domain is completed by a default one, and ``nginx`` of Docker Hub is ``docker.io/library/nginx``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from isola.errors import InvalidInput

DOCKER_HUB = "docker.io"
HUB_INDEX = f"index.{DOCKER_HUB}"
"""Where it is searched, and the name of the hub in older references."""
HUB_ADDRESS = f"https://{HUB_INDEX}/v1/"
"""Under which Docker's clients store credentials for the hub."""
DEFAULT_TAG = "latest"
_OFFICIAL = "library/"
_MAX_PATH = 255

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?:[a-fA-F0-9:]+)\])"
_DOMAIN = re.compile(rf"{_HOST}(?::[0-9]+)?", re.ASCII)
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}", re.ASCII)
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_LONGEST = 2048
"""Longer texts are not looked at."""


@dataclass(frozen=True, slots=True)
class ImageReference:
    """A checked and completed name: a repository, and what is wanted of it."""

    domain: str
    """``docker.io``, ``registry.example:5000``; empty for a repository of this server."""
    path: str
    """``library/nginx``, ``team/app``."""
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """The repository with its domain."""
        return f"{self.domain}/{self.path}" if self.domain else self.path

    @property
    def full(self) -> str:
        """The whole name: what an alias of the image is called."""
        return self.name + self._wanted()

    @property
    def familiar_name(self) -> str:
        """The repository as Docker shows it: without the domain and ``library/`` of Docker Hub."""
        if self.domain != DOCKER_HUB:
            return self.name
        short = self.path.removeprefix(_OFFICIAL)
        return self.path if "/" in short else short

    @property
    def familiar(self) -> str:
        """The whole name as Docker shows it."""
        return self.familiar_name + self._wanted()

    @property
    def is_name_only(self) -> bool:
        """Whether it has neither tag nor digest."""
        return not self.tag and not self.digest

    def tagged(self, tag: str = DEFAULT_TAG) -> ImageReference:
        """The same with this tag unless it has a tag or a digest. Raises InvalidInput."""
        return replace(self, tag=check_tag(tag)) if self.is_name_only else self

    def at(self, *, tag: str = "", digest: str = "") -> ImageReference:
        """Another image of the same repository. Raises InvalidInput."""
        return ImageReference(
            self.domain, self.path, check_tag(tag) if tag else "", check_reference_digest(digest) if digest else ""
        )

    def _wanted(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str, default_domain: str = DOCKER_HUB) -> ImageReference:
    """A name as users type it, completed. Raises InvalidInput with Docker's texts."""
    if not text:
        raise _invalid("repository name must have at least one component")
    if len(text) > _LONGEST:
        raise _invalid()
    if _ID.fullmatch(text):
        raise _invalid(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, rest = _split_domain(text, default_domain)
    repository = rest.partition(":")[0]
    if repository.lower() != repository:
        raise _invalid(f"invalid reference format: repository name ({repository[:_MAX_PATH]}) must be lowercase")
    return _checked(domain, rest)


def parse_full(text: str) -> ImageReference | None:
    """A complete name (``ImageReference.full``), None for another text. A path of its own has no domain."""
    head, slash, rest = text.partition("/")
    domain, rest = (head, rest) if slash and _names_host(head) else ("", text)
    try:
        return _checked(domain, rest) if len(text) <= _LONGEST else None
    except InvalidInput:
        return None


def check_domain(text: str) -> str:
    """A registry's host with an optional port. Raises ValueError."""
    if not _DOMAIN.fullmatch(text) or len(text) > 255:
        raise ValueError("a registry as in registry.example or registry.example:5000 is expected")
    return text


def check_tag(text: str) -> str:
    """Raises InvalidInput."""
    if not _TAG.fullmatch(text):
        raise _invalid("invalid tag format")
    return text


def check_path(text: str) -> str:
    """The name of a repository without its domain. Raises InvalidInput."""
    if len(text) > _MAX_PATH:
        raise _invalid(f"repository name must not be more than {_MAX_PATH} characters")
    if not _PATH.fullmatch(text):
        raise _invalid()
    return text


def check_reference_digest(text: str) -> str:
    """A digest of the only algorithm that images here have. Raises InvalidInput."""
    if not _DIGEST.fullmatch(text):
        raise _invalid()
    algorithm, _, digits = text.partition(":")
    if algorithm not in ("sha256", "sha384", "sha512"):
        raise _invalid("unsupported digest algorithm")
    if len(digits) != {"sha256": 64, "sha384": 96, "sha512": 128}[algorithm]:
        raise _invalid("invalid checksum digest length")
    if digits.lower() != digits:
        raise _invalid("invalid checksum digest format")
    if not _SHA256.fullmatch(text):
        raise _invalid("unsupported digest algorithm")
    return text


def names_registry(text: str) -> bool:
    """Whether the name begins with a registry; a capital letter alone, as in ``Debian/12``, is not taken for one."""
    head, slash, _ = text.partition("/")
    return bool(slash) and ("." in head or ":" in head or head == "localhost")


def as_alias(text: str) -> str:
    """``debian:12`` as aliases of images of LXD's kind are written, ``debian/12``; empty for any other text."""
    name, colon, tag = text.partition(":")
    if not colon or "/" in name or "@" in text or not _PATH.fullmatch(name) or not _TAG.fullmatch(tag):
        return ""
    return f"{name}/{tag}"


def is_id(text: str) -> bool:
    """Whether it is a whole image id, which is never taken for a name."""
    return _ID.fullmatch(text.removeprefix("sha256:")) is not None


def _split_domain(text: str, default: str) -> tuple[str, str]:
    head, slash, rest = text.partition("/")
    if not slash or not _names_host(head):
        head, rest = default, text
    if head == HUB_INDEX:
        head = DOCKER_HUB
    if head == DOCKER_HUB and "/" not in rest:
        rest = _OFFICIAL + rest
    return head, rest


def _names_host(head: str) -> bool:
    """Docker's rule for the first part of a path: a dot, a port or a capital letter makes it a host."""
    return "." in head or ":" in head or head == "localhost" or head.lower() != head


def _checked(domain: str, rest: str) -> ImageReference:
    rest, at, digest = rest.partition("@")
    path, colon, tag = rest.partition(":")
    if (domain and not _DOMAIN.fullmatch(domain)) or (colon and not _TAG.fullmatch(tag)) or (at and not digest):
        raise _invalid()
    return ImageReference(domain, check_path(path), tag, check_reference_digest(digest) if at else "")


def _invalid(message: str = "invalid reference format") -> InvalidInput:
    return InvalidInput(message, field="reference")
