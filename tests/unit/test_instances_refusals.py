"""Invalid requests about instances are refused, with code and field, before any effect."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from instance_verbs import NIC_ONE as NIC
from instance_verbs import ROOT
from memory_audit import differences

from isola.errors import IsolaError, WrongState
from isola.model.instance import InstanceRequest
from isola.model.reference import Ref
from isola.testing.parts import World

REFUSED: Mapping[str, tuple[Mapping[str, object], str, str | None]] = {
    "name": ({"name": "-bad"}, "invalid", "name"),
    "type": ({"type": "virtual-machine"}, "unsupported", "isolation"),
    "isolation": ({"isolation": "vm"}, "unsupported", "isolation"),
    "runtime": ({"runtime": "nope"}, "not_found", "runtime"),
    "profile": ({"profiles": ("nope",)}, "invalid", "profiles"),
    "no root": ({"profiles": ()}, "invalid", "devices"),
    "pool": ({"devices": {"root": ROOT | {"pool": "nope"}}}, "not_found", "devices.root.pool"),
    "network": ({"devices": {"eth0": NIC | {"network": "nope"}}}, "not_found", "devices.eth0.network"),
    "key": ({"config": {"limits.memroy": "1GiB"}}, "invalid", "config.limits.memroy"),
    "value": ({"config": {"limits.memory": "much"}}, "invalid", "config.limits.memory"),
    "privileged": ({"config": {"security.privileged": "true"}}, "forbidden", "config.security.privileged"),
    "host": ({"config": {"isola.namespaces.pid": "host"}}, "forbidden", "config.isola.namespaces.pid"),
    "peer": ({"config": {"isola.namespaces.network": "container:x"}}, "not_found", "config.isola.namespaces.network"),
    "alone": ({"config": {"isola.namespaces.pid": "container:x"}}, "not_found", "config.isola.namespaces.pid"),
    "two": (
        {"config": {"isola.namespaces.pid": "container:x", "isola.namespaces.ipc": "container:y"}},
        "invalid",
        "config.isola.namespaces.ipc",
    ),
    "nic": ({"config": {"isola.namespaces.network": "none"}, "devices": {"eth0": NIC}}, "invalid", "devices.eth0"),
    "device": ({"devices": {"gpu": {"type": "gpu"}}}, "unsupported", "devices.gpu.type"),
}

WEB1 = Ref.default("web1")


@pytest.mark.parametrize("case", REFUSED)
async def test_a_wrong_request_is_refused_before_anything_is_done(case: str, world: World) -> None:
    wanted, code, field = REFUSED[case]
    request = InstanceRequest(**({"name": "web1", "image": "tiny"} | dict(wanted)))  # type: ignore[arg-type]
    with pytest.raises(IsolaError) as caught:
        world.parts.services.instances.create(request)
    assert (caught.value.code, caught.value.field) == (code, field)
    assert not await differences(world)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (InstanceRequest(name="web1", image="nothing-of-that-name"), "not_found"),
    ],
)
async def test_errors_that_depend_on_the_image(request_: InstanceRequest, code: str, world: World) -> None:
    operation = world.parts.services.instances.create(request_)
    await operation.wait(2)
    assert operation.view().error_code == code
    assert not await differences(world)


async def test_verbs_name_the_required_state(world: World) -> None:
    await world.create("web1")
    instances = world.parts.services.instances
    for verb, remedy in (
        (instances.stop, ""),
        (instances.restart, ""),
        (instances.pause, "start it first"),
        (instances.resume, "start it first"),
    ):
        with pytest.raises(WrongState, match="is not running") as found:
            verb(WEB1)
        assert found.value.remedy == remedy
    await world.finish(instances.start(WEB1))
    for refused in (
        lambda: instances.start(WEB1),
        lambda: instances.rename(WEB1, "web2"),
    ):
        with pytest.raises(WrongState):
            refused()  # type: ignore[no-untyped-call]


async def test_missing_objects_are_not_found(world: World) -> None:
    instances = world.parts.services.instances
    for verb in (instances.get, instances.start, instances.stop, instances.delete, instances.files):
        with pytest.raises(IsolaError) as caught:
            verb(Ref.default("absent"))
        assert caught.value.code == "not_found"
    await world.create("web1")
    with pytest.raises(IsolaError) as caught:
        instances.get(Ref("another-project", "web1"))
    assert caught.value.code == "not_found"


async def test_renaming_to_an_existing_or_invalid_name(world: World) -> None:
    await world.create("web1")
    await world.create("web2")
    for new, code in (("web2", "already_exists"), ("web1", "already_exists"), ("../x", "invalid")):
        with pytest.raises(IsolaError) as caught:
            world.parts.services.instances.rename(WEB1, new)
        assert caught.value.code == code
