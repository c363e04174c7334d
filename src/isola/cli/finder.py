"""Imports modules from a bundle: one file with the compiled code of all modules of the command line.

An import from it takes half the time of one from the module's own file: no directory is searched, and nothing is read
but the code. The launcher runs this before it imports any other module of isola (``install/bundled-launcher.in``); the
bundle begins with it, and is written by ``bundle.py``.
"""

from __future__ import annotations

import posix
import sys
from marshal import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    Index = Mapping[str, tuple[bool, int, int]]
    """Module -> whether it is a package, where its code begins, counted from the end of the index, and its size."""

Spec = type(sys.__spec__)


class Finder:
    """What is not in the bundle is left to the other finders."""

    def __init__(self, bundle: str, start: int, index: Index) -> None:
        self._bundle = bundle
        self._library = bundle.rpartition("/")[0]
        self._start = start
        self._index = index

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        found = self._index.get(name)
        if found is None:
            return None
        package, offset, size = found
        source = f"{self._library}/{name.replace('.', '/')}"
        spec: ModuleSpec = Spec(name, self, origin=f"{source}.py", loader_state=(offset, size), is_package=package)  # type: ignore[arg-type]
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(source)
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """An ordinary module is wanted."""

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        offset, size = module.__spec__.loader_state
        # Not kept open: a descriptor would be one that a command inherits, or closes, or takes for a standard stream.
        descriptor = posix.open(self._bundle, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            code = posix.pread(descriptor, size, self._start + offset)
        finally:
            posix.close(descriptor)
        exec(loads(code), module.__dict__)
