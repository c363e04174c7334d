"""Errors of the daemon, as the client raises them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import isola
from isola.client.failures import from_reply
from isola.errors import IsolaError


def _tree(root: type[IsolaError]) -> Iterator[type[IsolaError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


def test_every_kind_of_error_is_made_of_a_reply() -> None:
    for module in pkgutil.walk_packages(isola.__path__, "isola."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for kind in _tree(IsolaError):
        details = {"code": kind.code, "message": "m", "evidence": "e", "remedy": "r", "field": "f"}
        error = from_reply(400, "", details)
        assert (error.message, error.evidence, error.remedy, error.field) == ("m", "e", "r", "f")
        assert error.code in (kind.code, "host_failure")
