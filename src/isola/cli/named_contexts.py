"""``--build-context``: further contexts, of which directories are sent beside the context."""

from __future__ import annotations

import os

from isola.cli.arguments import UsageError
from isola.cli.build_context import BuildContext, together

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_NONE: Mapping[str, BuildContext] = {}
_SCHEMES = ("docker-image://", "https://", "http://", "oci-layout://", "git@", "git://", "ssh://")


class NamedContexts:
    """``given``: by name a directory, or what the daemon finds itself. Raises OSError, InvalidInput."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._directories: dict[str, BuildContext] = {}
        self.options = {name: self._option(value) for name, value in given.items()}
        """As the daemon has them."""

    def _option(self, value: str) -> str:
        if value.startswith(_SCHEMES):
            return value
        name = f"context-{len(self._directories) + 1}"
        self._directories[name] = BuildContext(value, needed=False)
        return f"local:{name}"

    @property
    def has_directories(self) -> bool:
        """Whether something has to be sent for them."""
        return bool(self._directories)

    def stream(self, context: BuildContext | None, more: Mapping[str, BuildContext] = _NONE) -> Iterator[bytes]:
        """The archive, with more directories; without a context, which the daemon fetches then."""
        directories = {**self._directories, **more}
        if not directories and context is not None:
            return context.stream()
        found = {} if context is None else {"context": context}
        return together({**found, **directories}) if directories else iter(())


def read_pairs(texts: Iterable[str]) -> dict[str, str]:
    """``NAME=PATH``. Raises UsageError."""
    found: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name or not value:
            raise UsageError(f"--build-context {text}: NAME=VALUE is expected")
        if not value.startswith(_SCHEMES) and not os.path.isdir(value):
            raise UsageError(f"--build-context {name}: there is no directory {value}")
        found[name] = value
    return found
