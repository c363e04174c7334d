"""Reads compose files with what they extend and include, and merges them into one document."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from isola.compose.canonical import canonical
from isola.compose.documents import parse
from isola.compose.env_files import parse_env
from isola.compose.merging import merge, settled
from isola.compose.paths import Base
from isola.compose.variables import Variables
from isola.errors import InvalidInput

Tree = dict[str, Any]
_MOST_FILES = 100
_KINDS = ("services", "networks", "volumes", "configs", "secrets")
_NAMED = re.compile(r"^name:.*$", re.MULTILINE)
_NOT_EXTENDED = ("depends_on", "volumes_from", "links", "network_mode", "ipc", "pid")
"""Keys that name other services: those of a service in another file are not taken over."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where files are read from. ``read`` raises FileNotFoundError and other OSErrors."""

    read: Callable[[Path], str]
    home: str
    warn: Callable[[str], object] = lambda text: None


@dataclass
class Loader:
    """Loads one application: its files, relative to ``directory``, with the values of ``environment``."""

    source: Source
    directory: Path
    environment: Mapping[str, str]
    texts: dict[Path, str] = field(default_factory=dict)
    """What has been read: standard input can be read once."""
    opened: list[Path] = field(default_factory=list)
    """All files read so far, those included too, as a bound."""
    documents: dict[tuple[Path, Path], Tree] = field(default_factory=dict)
    """Files that services extend, by path and the directory that their paths are relative to."""
    inside: tuple[Path, ...] = ()
    """The files that include this application, outermost first."""

    def load(self, files: Sequence[Path]) -> Tree:
        """The merged document with absolute paths, without ``extends`` and ``include``. Raises InvalidInput."""
        merged: Tree = {}
        included: list[Any] = []
        for file in files:
            document = self._document(file)
            included += _list_of(document.pop("include", None), f"{file.name}: include")
            for name in _services(document):
                document["services"][name] = self._extended(document, name, file, ())
            merged = merge(merged, document) if merged else settled(document)
        for each in included:
            self._include(merged, each, files)
        return merged

    def name(self, files: Sequence[Path]) -> str:
        """``name`` of the last file that has one, in the form of a name; variables may refer to it."""
        for file in reversed(files):
            if (line := _NAMED.search(self._read(file))) and (found := parse(line[0], file.name).get("name")):
                text = Variables(self.environment).text(str(found), "name")
                return re.sub(r"[^a-z0-9_-]", "", text.lower()).lstrip("_-")
        return ""

    def _document(self, file: Path) -> Tree:
        """One file: interpolated, in long forms, with absolute paths."""
        text = self._read(file)
        missing = self.source.warn
        variables = Variables(self.environment, lambda name: missing(f"Variable {name} is not set: empty"))
        document = canonical(variables.tree(parse(text, file.name)))
        return Base(self.directory, self.source.home).document(document)

    def _extended(self, document: Tree, name: str, file: Path, chain: tuple[tuple[Path, str], ...]) -> Any:
        """A service with what it extends below it."""
        service = _services(document).get(name)
        if not isinstance(service, dict) or not isinstance(extends := service.get("extends"), dict):
            return service
        if (file, name) in chain:
            raise InvalidInput(f"Service {name} extends itself", evidence=" -> ".join(each for _, each in chain))
        chain, base_name = (*chain, (file, name)), str(extends.get("service") or "")
        if extends.get("file"):
            base_file = Path(Base(self.directory, self.source.home).path(str(extends["file"])))
            loader = replace(self, directory=base_file.parent)
            found = loader._extendable(base_file)
        else:
            base_file, loader, found = file, self, document
        if base_name not in _services(found):
            raise InvalidInput(
                f"Service {name} extends {base_name!r}, which is not in {base_file.name}",
                field=f"services.{name}.extends",
            )
        base = loader._extended(found, base_name, base_file, chain)
        own = {key: value for key, value in service.items() if key != "extends"}
        if base_file != file and isinstance(base, dict):
            base = {key: value for key, value in base.items() if key not in _NOT_EXTENDED}
        return merge({"services": {name: settled(base)}}, {"services": {name: own}})["services"][name]

    def _extendable(self, file: Path) -> Tree:
        key = file, self.directory
        if key not in self.documents:
            self.documents[key] = self._document(file)
        return self.documents[key]

    def _include(self, merged: Tree, entry: Any, files: Sequence[Path]) -> None:
        """Add another application. What both define differently is an error."""
        if not isinstance(entry, dict) or not entry.get("path"):
            raise InvalidInput("An entry of include needs a path", field="include")
        base = Base(self.directory, self.source.home)
        paths = [Path(base.path(str(each))) for each in _list_of(entry["path"], "include.path")]
        if set(paths) & {*self.inside, *files}:
            raise InvalidInput("A file includes itself", evidence=", ".join(map(str, paths)), field="include")
        where = entry.get("project_directory")
        directory = Path(base.path(str(where))) if where else paths[0].parent
        named = [Path(base.path(str(each))) for each in _list_of(entry.get("env_file"), "include.env_file")]
        values = self._environment(named or [directory / ".env"], required=bool(named))
        inner = replace(
            self,
            directory=directory,
            environment={**values, **self.environment},
            documents={},
            inside=(*self.inside, *files),
        )
        found = inner.load(paths)
        for kind in _KINDS:
            for name, item in (found.get(kind) or {}).items():
                own = merged.setdefault(kind, {})
                if name in own and own[name] != item:
                    raise InvalidInput(
                        f"{kind}.{name} is defined here and in the included {paths[0].name}", field=f"{kind}.{name}"
                    )
                own[name] = item

    def _environment(self, files: Sequence[Path], *, required: bool) -> dict[str, str]:
        found: dict[str, str] = {}
        for file in files:
            try:
                text = self._read(file)
            except InvalidInput:
                if required:
                    raise
                continue
            values = parse_env(text, {**found, **self.environment}, str(file))
            found |= {name: value for name, value in values.items() if value is not None}
        return found

    def _read(self, file: Path) -> str:
        if len(self.opened) >= _MOST_FILES:
            raise InvalidInput("The compose files include too many others", evidence=f"over {_MOST_FILES}")
        self.opened.append(file)
        try:
            if file not in self.texts:
                self.texts[file] = self.source.read(file)
            return self.texts[file]
        except (OSError, ValueError) as error:
            raise InvalidInput(f"Cannot read {file}", evidence=getattr(error, "strerror", "") or str(error)) from None


def _services(document: Tree) -> Tree:
    services = document.get("services")
    return services if isinstance(services, dict) else {}


def _list_of(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise InvalidInput(f"{where} is invalid", evidence="a list is expected", field=where)
    return value
