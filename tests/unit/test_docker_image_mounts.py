"""Mounts of images through the Docker door: requests, refusals, descriptions, and images that are kept for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from docker_door import DockerStand, docker_standing

from isola.doors.docker.containers.wording import of_start
from isola.errors import Forbidden, InvalidInput, NotFound
from isola.model.instance import Instance, InstanceUpdate
from isola.model.reference import Ref

WRONG = 'invalid mount config for type "image": '
FEATURE = "Image mount is an experimental feature"


@pytest.fixture
async def docker() -> AsyncIterator[DockerStand]:
    """With an image ``tools`` beside ``tiny``."""
    async with docker_standing() as made:
        await made.rest.world.import_image("docker.io/library/tools:latest", version="1")
        yield made


def mount(**fields: object) -> dict[str, object]:
    return {"Type": "image", "Source": "tools", "Target": "/x"} | fields


async def create(docker: DockerStand, *mounts: dict[str, object], **more: object) -> tuple[int, Any]:
    body = {"Image": "tiny", "Cmd": ["x"], "HostConfig": {"Mounts": mounts, **more}}
    return await docker.ask("POST", "/containers/create?name=box", body)


def device(docker: DockerStand) -> dict[str, str]:
    devices = docker.services.instances.get(Ref.default("box")).devices.values()
    (found,) = [dict(each) for each in devices if each.get("source", "").startswith("image:")]
    return found


def fingerprint(docker: DockerStand) -> str:
    found = docker.services.images.resolve(Ref.default("docker.io/library/tools:latest"))
    assert found is not None
    return found.fingerprint


@pytest.mark.parametrize(
    ("given", "status", "message"),
    [
        (mount(Source=""), 400, f"{WRONG}field Source must not be empty"),
        (mount(Target=""), 400, f"{WRONG}field Target must not be empty"),
        (mount(Target="/"), 400, f"{WRONG}invalid specification: destination can't be '/'"),
        (mount(Target="x"), 400, f"{WRONG}invalid mount path: 'x' mount path must be absolute"),
        (mount(VolumeOptions={}), 400, 'VolumeOptions must not be specified on mount type "image"'),
        (mount(BindOptions={}), 400, 'BindOptions must not be specified on mount type "image"'),
        (mount(TmpfsOptions={}), 400, 'TmpfsOptions must not be specified on mount type "image"'),
        (mount(ImageOptions={"Subpath": "../x"}), 400, f"{WRONG}subpath must be a relative path within the volume"),
        (mount(ImageOptions={"Subpath": "a/../../x"}), 400, f"{WRONG}subpath must be a relative path"),
        (mount(ImageOptions={"Subpath": "/etc"}), 400, f"{WRONG}subpath must be a relative path within the volume"),
        (mount(Source="nope:5"), 404, "No such image: nope:5"),
        (mount(Source="W/:/"), 400, "invalid reference format"),
        (mount(Type="volume", ImageOptions={}), 400,
         'invalid mount config for type "volume": field ImageOptions must not be specified'),
    ],
)  # fmt: skip
async def test_mistakes_are_said_as_docker_says_them(
    docker: DockerStand, given: dict[str, object], status: int, message: str
) -> None:
    found, said = await create(docker, given)
    assert (found, said["message"].startswith(message)) == (status, True), said


async def test_two_on_one_path_are_refused(docker: DockerStand) -> None:
    assert await create(docker, mount(), mount(Source="tiny")) == (400, {"message": "Duplicate mount point: /x"})


async def test_the_device_has_the_fingerprint(docker: DockerStand) -> None:
    status, said = await create(docker, mount(ReadOnly=True, ImageOptions={"Subpath": "./etc//apk/../x"}))
    assert (status, said["Warnings"]) == (201, [FEATURE])
    image = fingerprint(docker)
    assert device(docker) == {"type": "disk", "source": f"image:{image}", "path": "/x", "subpath": "etc/x"}


async def test_it_is_described_as_it_was_asked_for(docker: DockerStand) -> None:
    given = mount(Target="/x/", ImageOptions={"Subpath": "."})
    assert (await create(docker, given, Binds=["vol:/y"]))[0] == 201
    box = await docker.get("/containers/box/json")
    image = {"Type": "image", "Name": "tools", "Source": "", "Destination": "/x", "Mode": "", "RW": False}
    assert box["Mounts"][0] == image | {"Propagation": "rprivate"}
    assert (box["HostConfig"]["Mounts"], box["HostConfig"]["Binds"]) == ([given], ["vol:/y"])
    (listed,) = await docker.get('/containers/json?all=1&filters={"volume":["tools"]}')
    assert listed["Mounts"][0]["Name"] == "tools"


async def test_an_image_that_is_mounted_is_kept(docker: DockerStand) -> None:
    await create(docker, mount())
    id, image = (await docker.get("/containers/box/json"))["Id"][:12], fingerprint(docker)
    status, said = await docker.ask("DELETE", "/images/tools")
    assert status == 409 and f"container {id} is using its referenced image {image[:12]}" in said["message"]
    for force in (0, 1):
        status, said = await docker.ask("DELETE", f"/images/{image}?force={force}")
        assert status == 409 and "(cannot be forced) - image is being used by stopped container" in said["message"]
    pruned = await docker.ask("POST", '/images/prune?filters={"dangling":["false"]}')
    assert pruned[1]["ImagesDeleted"] is None
    status, records = await docker.ask("DELETE", "/images/tools?force=1")
    assert (status, records[0]) == (200, {"Untagged": "tools:latest"}) and not [
        each for each in records if "Deleted" in each
    ]
    assert docker.services.images.resolve(Ref.default(image)) is not None
    assert (await docker.ask("POST", "/containers/box/start"))[0] == 204, "without a name"
    assert (await docker.ask("DELETE", "/containers/box?force=1"))[0] == 204
    deleted = (await docker.ask("POST", "/images/prune"))[1]["ImagesDeleted"]
    assert deleted == [{"Deleted": f"sha256:{image}"}]


async def test_a_snapshot_keeps_it_too(docker: DockerStand) -> None:
    await create(docker, mount())
    instances = docker.services.instances
    await docker.rest.world.finish(instances.snapshots.create(Ref.default("box"), "snap0"))

    def without(found: Instance) -> InstanceUpdate:
        devices = {name: each for name, each in found.devices.items() if each.get("path") != "/x"}
        return InstanceUpdate(config=found.config, devices=devices, profiles=found.profiles)

    await docker.rest.world.finish(instances.update(Ref.default("box"), without))
    image = f"sha256:{fingerprint(docker)}"
    assert (await docker.ask("DELETE", "/images/tools?force=1"))[0] == 200
    for filters in ('{"dangling":["false"]}', "{}"):
        assert (await docker.ask("POST", f"/images/prune?filters={filters}"))[0] == 200
    assert image in [each["Id"] for each in await docker.get("/images/json?all=1")]
    assert (await docker.ask("DELETE", "/containers/box?force=1"))[0] == 204
    assert (await docker.ask("POST", "/images/prune"))[0] == 200
    assert image not in [each["Id"] for each in await docker.get("/images/json?all=1")], (
        "the snapshot went with the container"
    )


async def test_older_versions_have_none(docker: DockerStand) -> None:
    body = {"Image": "tiny", "Cmd": ["x"], "HostConfig": {"Mounts": [mount()]}}
    async with docker.session.post("http://docker/v1.47/containers/create", json=body) as answer:
        assert (answer.status, (await answer.json())["message"]) == (
            400,
            'Mount type "Image" needs API v1.48 or newer',
        )


def test_a_part_that_is_missing_or_outside_is_said_as_docker_says_it() -> None:
    field = "devices.mount-1.subpath"
    missing = of_start("x", "crun", NotFound("The path does not exist in image:f00", evidence="nope", field=field))
    assert isinstance(missing, NotFound) and missing.message == "cannot access path nope: no such file or directory"
    outside = of_start("x", "crun", Forbidden("The path leads out of image:f00", evidence="bad", field=field))
    assert isinstance(outside, InvalidInput) and "escapes the base directory" in outside.message
