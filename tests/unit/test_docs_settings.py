"""The reference page of configuration keys matches the tables and checks it is generated from."""

from __future__ import annotations

import pytest

from isola import registry
from isola.daemon.reference import page
from isola.devices import kinds, settings_of
from isola.errors import InvalidInput
from isola.instances.settings import SETTINGS
from isola.settings import Setting, Settings


@pytest.mark.parametrize("kind", kinds())
def test_it_names_the_keys_of_devices(kind: str) -> None:
    chapter = page().partition(f"### Devices of type `{kind}`\n")[2].partition("\n##")[0]
    assert [row.key for row in settings_of(kind) if f"| `{row.key}` |" not in chapter] == []


@pytest.mark.parametrize("row", [row for kind in kinds() for row in settings_of(kind)], ids=lambda row: f"{row.key}")
def test_descriptions_of_device_values_match_their_errors(row: Setting) -> None:
    assert row.expected != "anything"
    with pytest.raises(InvalidInput) as refused:
        Settings("device", row).validate({row.key: "\0"})
    assert row.expected in str(refused.value)


@pytest.mark.parametrize("kind", ["network", "storage", "images"])
def test_every_driver_with_keys_has_a_section(kind: str) -> None:
    tables = {name: [f"`{row.key}`" for row in registry.load(kind, name).settings] for name in registry.names(kind)}
    assert any(tables.values())
    for name, keys in tables.items():
        chapter = page().partition(f"`{name}`\n")[2].partition("\n## ")[0]
        assert [key for key in keys if f"| {key} |" not in chapter] == []


@pytest.mark.parametrize("row", [row for row in SETTINGS if not row.read_only], ids=lambda row: row.key)
def test_descriptions_of_values_match_their_errors(row: Setting) -> None:
    assert row.expected != "anything"
    with pytest.raises(InvalidInput) as refused:
        Settings("instance", row).validate({row.key.replace("*", "x"): "\0"})
    assert row.expected in str(refused.value)
