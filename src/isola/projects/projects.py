"""Projects: looked up."""

from __future__ import annotations

from collections.abc import Iterator

from isola.model.project import Project
from isola.model.reference import Kind
from isola.state import Collection


class Projects:
    """All projects of this daemon; there is always one, ``default``."""

    def __init__(self, records: Collection[Project]) -> None:
        self._records = records

    def __iter__(self) -> Iterator[Project]:
        return iter(self._records)

    def get(self, name: str) -> Project:
        """Raises NotFound."""
        return self._records.get(name)

    def find(self, name: str) -> Project | None:
        return self._records.find(name)

    def revision(self, name: str) -> int:
        """Changes with every write."""
        return self._records.revision(name)

    def home(self, project: str, kind: Kind) -> str:
        """Where the things of a kind live that a project uses: there, or in the default project."""
        return (self._records.find(project) or Project(project)).home(kind)
