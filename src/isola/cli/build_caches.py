"""``--cache-from`` and ``--cache-to``: caches of registries, and directories of the user that are sent and written."""

from __future__ import annotations

import os

from isola.cli.arguments import UsageError
from isola.cli.build_context import BuildContext
from isola.cli.build_files import Unpacking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FORMS = "NAME, or type=registry,ref=NAME, type=local,src=DIRECTORY"
_FORMS_TO = "type=registry,ref=NAME, type=local,dest=DIRECTORY or type=inline"
_INDEX = "index.json"


class BuildCaches:
    """Raises UsageError, OSError."""

    def __init__(self, sources: Iterable[str], targets: Iterable[str]) -> None:
        self.directories: dict[str, BuildContext] = {}
        """What is sent, by its name in the archive."""
        self.missing: list[str] = []
        """Directories without a cache, as before the first build."""
        self._targets: dict[str, str] = {}
        self._written: dict[str, Unpacking] = {}
        self.imports = [each for text in sources if (each := self._import(text)) is not None]
        self.exports = [self._export(text) for text in targets]

    def _import(self, text: str) -> dict[str, str] | None:
        fields, directory = _read(text, "--cache-from", "src", _FORMS)
        if not directory:
            return fields
        if not os.path.isfile(os.path.join(directory, _INDEX)):
            self.missing.append(directory)
            return None
        name = f"cache-{len(self.directories) + 1}"
        self.directories[name] = BuildContext(directory, needed=False)
        return {**fields, "directory": name}

    def _export(self, text: str) -> dict[str, str]:
        fields, directory = _read(text, "--cache-to", "dest", _FORMS_TO)
        if not directory:
            return fields
        name = f"cache-{len(self._targets) + 1}"
        self._targets[name] = directory
        return {**fields, "directory": name}

    def registries(self) -> Iterator[str]:
        """Names of images whose registries may want a login."""
        for fields in (*self.imports, *self.exports):
            if ref := fields.get("ref"):
                yield ref

    def take(self, name: str, data: bytes) -> None:
        """The next piece of a cache for the user. Raises OSError."""
        if name in self._targets:
            if name not in self._written:
                self._written[name] = Unpacking(self._targets[name])
            self._written[name].take(data)

    def finish(self) -> None:
        """The build has succeeded. Raises OSError, InvalidInput."""
        for each in self._written.values():
            each.finish()


def _read(text: str, option: str, place: str, forms: str) -> tuple[dict[str, str], str]:
    """The fields, without the directory of a local cache, and that; empty for other types. Raises UsageError."""
    if "=" not in text:
        return {"type": "registry", "ref": text}, ""
    fields = dict(part.partition("=")[::2] for part in text.split(","))
    if not (kind := fields.get("type")):
        raise UsageError(f"{option} {text}: the type is missing", hint=f"{option} is {forms}")
    if kind != "local":
        return fields, ""
    if not (directory := fields.pop(place, "")):
        raise UsageError(f"{option} {text}: the directory is missing", hint=f"{option} is {forms}")
    return fields, directory
