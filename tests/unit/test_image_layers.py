"""Ids of unpacked layers: OCI chain ids, and for records of 0.1 the digests of the blobs."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from isola.model.image import Layer, chain_ids, layer_keys
from isola.model.instance import Start
from isola.model.reference import Ref
from isola.state import record_codec
from isola.state.codec import encode
from isola.testing.parts import World


def digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


A, B, C = digest("a"), digest("b"), digest("c")


def test_chain_ids_are_those_of_the_oci_image_specification() -> None:
    """ChainID(L0) = DiffID(L0); ChainID(L0|...|Ln) = Digest(ChainID(L0|...|Ln-1) + " " + DiffID(Ln))."""
    below = digest(f"{A} {B}")
    assert chain_ids([A, B, C]) == (A, below, digest(f"{below} {C}"))
    assert chain_ids([]) == ()
    assert chain_ids([B, A])[1] != chain_ids([A, B])[1]


def test_equal_content_has_one_key_whatever_its_compression() -> None:
    gzip, zstd = Layer(digest("gzip"), "tar+gzip", 1, A), Layer(digest("zstd"), "tar+zstd", 2, A)
    assert layer_keys([gzip]) == layer_keys([zstd]) == (A,)


def test_layers_of_old_records_keep_the_keys_that_they_were_unpacked_under() -> None:
    old = record_codec(Layer).decode(b'{"digest": "%s", "media_type": "tar", "size": 1}' % A.encode())
    assert layer_keys([old]) == (A,)
    assert layer_keys([old, Layer(B, "tar", 1, C)]) == (A, B), "a chain with an unknown link is no chain"


def test_start_configuration_of_0_1_is_read() -> None:
    old = record_codec(Start).decode(b'{"layers": ["%s"]}' % A.encode())
    assert (old.layers, old.blobs) == ((A,), ())
    new = replace(old, blobs=(Layer(A, "tar", 1, B),))
    assert record_codec(Start).decode(encode(new)) == new


async def as_recorded_by_01(world: World, name: str) -> None:
    """The image, the instance and the unpacked layer as Isola 0.1 stored them."""
    records = world.parts.records
    [image] = records.images
    [layer] = image.layers
    driver = world.parts.services.pools.driver("default")
    for entry in await world.store.range("/images/"):
        await world.store.put(entry.key, encode(replace(image, layers=(replace(layer, diff_id=""),))))
    instance = records.instances.get(Ref.default(name))
    for entry in await world.store.range("/instances/"):
        old = replace(instance, start=replace(instance.start, layers=(layer.digest,), blobs=()))
        await world.store.put(entry.key, encode(old))
    place = driver.place / "layers"
    await world.host.files.rename(place / layer.diff_id[7:], place / layer.digest[7:])


async def test_instances_of_the_earlier_version_start_and_share_their_layers(world: World) -> None:
    await world.create("old")
    await as_recorded_by_01(world, "old")
    await world.start()
    old = world.parts.services.instances.get(Ref.default("old"))
    await world.finish(world.parts.services.instances.start(Ref.default("old")))
    new = await world.create("new")
    assert new.start.layers == old.start.layers, "the image's layer is not unpacked a second time"
    driver = world.parts.services.pools.driver("default")
    assert await driver.layers.stored() == old.start.layers
    await world.finish(world.parts.services.images.start_delete(Ref.default(new.image)))
    await world.finish(world.parts.services.instances.delete(Ref.default("new")))
    assert await driver.layers.stored() == old.start.layers
    assert set(old.start.layers) <= set(await world.parts.services.images.store.digests())
    await world.start()
    assert await driver.layers.stored() == old.start.layers


async def test_a_new_instance_uses_the_chain_and_keeps_its_blobs(world: World) -> None:
    instance = await world.create("new")
    [layer] = instance.start.blobs
    assert instance.start.layers == (layer.diff_id,) != (layer.digest,)
    await world.finish(world.parts.services.images.start_delete(Ref.default(instance.image)))
    store = world.parts.services.images.store
    assert await store.has(layer.digest), "a copy in another pool is unpacked from it"
    await world.finish(world.parts.services.instances.delete(Ref.default("new")))
    await world.parts.services.images.collect_garbage()
    assert await store.digests() == ()
    assert await world.parts.services.pools.driver("default").layers.stored() == ()
