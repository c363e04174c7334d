"""Relative paths of a compose file, completed with the directory that they are relative to. Pure."""

from __future__ import annotations

import os.path
from pathlib import Path
from typing import Any

Tree = dict[str, Any]
_REMOTE = ("http://", "https://", "git://", "ssh://", "git@", "docker-image://", "service:", "target:")


class Base:
    """The directory of a file, and the user's home for ``~``."""

    def __init__(self, directory: Path, home: str) -> None:
        self._directory = directory
        self._home = home

    def path(self, text: str) -> str:
        """Absolute."""
        if text == "~" or text.startswith("~/"):
            return os.path.normpath(self._home + text[1:])
        return os.path.normpath(self._directory / text)

    def document(self, document: Tree) -> Tree:
        """All paths of a file in long form."""
        for service in _mappings(document.get("services")):
            self.service(service)
        for kind in ("configs", "secrets"):
            for item in _mappings(document.get(kind)):
                self._at(item, "file")
        return document

    def service(self, service: Tree) -> Tree:
        """The paths of a service."""
        if isinstance(build := service.get("build"), dict):
            self._at(build, "context", remote=True)
            if isinstance(contexts := build.get("additional_contexts"), dict):
                for name in contexts:
                    self._at(contexts, name, remote=True)
        for mount in _entries(service.get("volumes")):
            if mount.get("type") == "bind":
                self._at(mount, "source")
        for each in _entries(service.get("env_file")):
            self._at(each, "path")
        if isinstance(files := service.get("label_file"), list):
            service["label_file"] = [self.path(each) if isinstance(each, str) else each for each in files]
        return service

    def _at(self, holder: Tree, key: str, *, remote: bool = False) -> None:
        value = holder.get(key)
        if isinstance(value, str) and not (remote and value.startswith(_REMOTE)):
            holder[key] = self.path(value)


def _mappings(value: Any) -> list[Tree]:
    return [each for each in value.values() if isinstance(each, dict)] if isinstance(value, dict) else []


def _entries(value: Any) -> list[Tree]:
    value = getattr(value, "value", value)  # of !override
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
