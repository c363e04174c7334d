"""Pages of device types agree with the tables of their keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from isola.devices import check, kinds
from isola.devices.checks import settings_of

PAGES = Path(__file__).parents[2] / "docs/reference/devices"
_ADDED = re.compile(r"isola config device add \S+ (\S+) (\S+)(.*)")
_CODE = re.compile(r"`([^`\n]+)`")
_KEY = re.compile(r"(?:security|limits|ipv4|ipv6|raw)\.[a-z_.]+")


def test_each_type_has_a_page_and_each_page_a_type() -> None:
    assert {page.stem.replace("_", "-") for page in PAGES.glob("*.md")} == set(kinds())


@pytest.mark.parametrize("kind", kinds())
def test_examples_on_pages_are_accepted(kind: str) -> None:
    found = _ADDED.findall(page(kind))
    assert found or kind == "none"
    for name, shown, rest in found:
        assert shown == kind
        check({name: {"type": kind} | dict(setting.split("=", 1) for setting in rest.split())})


@pytest.mark.parametrize("kind", kinds())
def test_keys_on_pages_exist(kind: str) -> None:
    known = {setting.key for setting in settings_of(kind)}
    for code in _CODE.findall(page(kind)):
        key = code.partition("=")[0]
        if _KEY.fullmatch(key) or ("=" in code and key != "nictype"):
            assert key in known, f"{code} on the page of {kind}"


def test_filters_and_rates_are_explained() -> None:
    for setting in settings_of("nic"):
        if setting.key.startswith(("security.", "limits.")):
            assert f"`{setting.key}`" in page("nic"), setting.key


def page(kind: str) -> str:
    return (PAGES / f"{kind.replace('-', '_')}.md").read_text()
