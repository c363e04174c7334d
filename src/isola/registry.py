"""Find a driver by its file name and import only the requested one.

A driver is ``isola/<kind>/drivers/<name>.py`` and exports its class as ``DRIVER``.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any

from isola.errors import NotFound


@cache
def names(kind: str) -> tuple[str, ...]:
    """Names of all drivers of a kind (``runtimes``, ``storage``, ...), without importing any of them."""
    package = importlib.import_module(f"isola.{kind}.drivers")
    return tuple(sorted(module.name for module in pkgutil.iter_modules(package.__path__)))


def load(kind: str, name: str) -> Any:
    """The class that a driver file exports as ``DRIVER``. Raises NotFound for a name without a file."""
    if name not in names(kind):
        raise NotFound(f"There is no {kind} driver {name!r}", remedy=f"choose one of: {', '.join(names(kind))}")
    return importlib.import_module(f"isola.{kind}.drivers.{name}").DRIVER
