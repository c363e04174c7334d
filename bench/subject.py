"""A measured program that runs instances, and its verbs."""

from abc import ABC
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from bench.images import Images
from bench.shell import run


class Subject(ABC):
    """A peer implements the verbs it has; a workload runs where all the verbs it needs are there.

    The constructor is cheap; ``start`` brings the daemon up, imports ``images`` and returns when both is done. All
    of it happens in namespaces of its own (sandbox.py): ``stop`` only undoes what outlives processes and mounts.
    """

    title: ClassVar[str]
    environment: Mapping[str, str]

    def __init__(self, directory: Path, images: Images) -> None:
        self.directory = directory
        self.images = images
        self.environment = {}

    def start(self) -> None:
        """Bring it up and import the images."""

    def stop(self) -> None:
        """Bring it down."""

    def version(self) -> str:
        """Version of the measured program, for the results."""
        return ""

    def run(self, *argv: str) -> str:
        """Run one of its commands."""
        return run(argv, env=self.environment)

    def delete_many(self, names: list[str]) -> None:
        """One after another, unless overridden."""
        for name in names:
            self.run_verb("delete", name)

    def run_verb(self, verb: str, *arguments: object) -> None:
        """Call one of its verbs by name."""
        getattr(self, verb)(*arguments)

    @classmethod
    def control_groups(cls, directory: Path) -> Sequence[str]:
        """Names of the top-level control groups that only this subject creates when it uses ``directory``."""
        return ()

    @classmethod
    def can(cls, verb: str) -> bool:
        """Whether it has a verb."""
        return callable(getattr(cls, verb, None))
