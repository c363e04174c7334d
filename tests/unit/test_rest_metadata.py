"""Descriptions of configuration keys in the API."""

from __future__ import annotations

from rest_door import standing

from isola import registry
from isola.devices import kinds
from isola.instances.settings import SETTINGS


async def test_every_key_of_the_tables_is_described() -> None:
    async with standing() as stand:
        configs = (await stand.get("/1.0/metadata/configuration"))["configs"]
    drivers = {f"{kind}_{name}" for kind in ("network", "storage") for name in registry.names(kind)}
    kinds_of_devices = {f"devices_{kind}" for kind in kinds()}
    assert set(configs) == {"instance", "project", "server", "volume", *drivers, *kinds_of_devices}
    rows = {key: about for group in configs["instance"].values() for row in group["keys"] for key, about in row.items()}
    assert set(rows) == {row.key for row in SETTINGS}
    assert rows["limits.memory"]["liveupdate"] == "yes"
    assert rows["boot.stop.priority"]["defaultdesc"] == "0"
