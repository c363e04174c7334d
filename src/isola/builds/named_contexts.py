"""Further contexts of a build, by the names that FROM and ``--from`` know them by. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from isola.errors import InvalidInput, Unsupported
from isola.host.http import check_url
from isola.model.git_address import parse_git
from isola.model.image_reference import parse

MOST = 100
IMAGE, SENT = "docker-image://", "local:"
_DIRECTORY = re.compile(r"context-\d{1,3}", re.ASCII)
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_FORMS = "a directory, docker-image://NAME, or the address of a Git repository or archive"


@dataclass(frozen=True, slots=True)
class NamedContext:
    """One of: an image, what has an address, a directory that the client has sent."""

    name: str
    image: str = ""
    remote: str = ""
    directory: str = ""
    """Beside that of the context."""


NamedContexts = Mapping[str, NamedContext]
"""By normalized names."""


def named_contexts(given: Mapping[str, str]) -> NamedContexts:
    """Raises InvalidInput, Unsupported."""
    if len(given) > MOST:
        raise InvalidInput(f"There are more than {MOST} contexts", field="contexts")
    found: dict[str, NamedContext] = {}
    for text, value in given.items():
        if (name := normalized(text)) is None:
            raise InvalidInput(f"invalid context name {text[:80]}", field="contexts",
                               remedy="names are like those of images, in lower case")  # fmt: skip
        if name in found:
            raise InvalidInput(f"The context {name[:80]} is given twice", field="contexts")
        found[name] = _context(name, value)
    return found


def directories_of(given: Mapping[str, str]) -> tuple[str, ...]:
    """Of those that the client sends. Raises what ``named_contexts`` raises."""
    return tuple(each.directory for each in named_contexts(given).values() if each.directory)


def normalized(name: str) -> str | None:
    """``alpine`` for ``docker.io/library/alpine:latest``; None for what is no name."""
    try:
        return parse(name).familiar.removesuffix(":latest")
    except InvalidInput:
        return None


def find(contexts: NamedContexts, name: str) -> NamedContext | None:
    """The context that has the place of a stage or image of this name."""
    if not contexts or (found := normalized(name)) is None:
        return None
    return contexts.get(found)


def images_of(given: Mapping[str, str]) -> Collection[str]:
    """Names of images."""
    return [value.removeprefix(IMAGE) for value in given.values() if value.startswith(IMAGE)]


def has_repositories(given: Mapping[str, str]) -> bool:
    """Whether some of them may need a login of Git."""
    return any(not value.startswith((IMAGE, SENT)) for value in given.values())


def _context(name: str, value: str) -> NamedContext:
    if value.startswith(IMAGE) and (image := value.removeprefix(IMAGE)):
        return NamedContext(name, image=image)
    if value.startswith(SENT) and _DIRECTORY.fullmatch(directory := value.removeprefix(SENT)):
        return NamedContext(name, directory=directory)
    if value.startswith(("oci-layout:", "input:", "target:")):
        kind = value.partition(":")[0]
        raise Unsupported(
            f"The context {name[:80]} cannot be of the kind {kind}", field="contexts", remedy=f"use {_FORMS}"
        )
    try:
        remote = parse_git(value, context=True) is not None or bool(_ADDRESS.match(value) and check_url(value))
    except ValueError as error:
        raise InvalidInput(str(error), field="contexts") from error
    if not remote:
        raise InvalidInput(
            f"The context {name[:80]} is not understood: {value[:200]!r}", field="contexts", remedy=f"use {_FORMS}"
        )
    return NamedContext(name, remote=value)
