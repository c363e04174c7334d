"""What the door says of configuration keys."""

from __future__ import annotations

from rest_door import standing

from isola.instances.settings import SETTINGS


async def test_every_key_of_the_tables_is_described() -> None:
    async with standing() as stand:
        configs = (await stand.get("/1.0/metadata/configuration"))["configs"]
    assert set(configs) == {"instance", "server", "network_bridge", "storage_overlay"}
    rows = {key: about for group in configs["instance"].values() for row in group["keys"] for key, about in row.items()}
    assert set(rows) == {row.key for row in SETTINGS}
    assert rows["limits.memory"]["liveupdate"] == "yes"
    assert rows["boot.stop.priority"]["defaultdesc"] == "0"
