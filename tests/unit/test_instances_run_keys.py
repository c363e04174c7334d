"""Configuration keys that say how a program is run: validated, in the specification of the run, kept by copies."""

from __future__ import annotations

from pathlib import Path

import pytest

from isola.errors import InvalidInput, NotFound, Unsupported
from isola.instances.copy import Source
from isola.instances.run_spec import INIT
from isola.model.confinement import Confinement
from isola.model.instance import Instance, InstanceRequest, InstanceUpdate
from isola.model.profile import Profile
from isola.model.program import Program
from isola.model.reference import Ref
from isola.runtimes import Mount, RunSpec
from isola.testing.parts import World
from isola.testing.system import FakeSystem

PROGRAM = Program(arguments=("/bin/app", "-v"))


async def run(world: World, **config: str) -> RunSpec:
    keys = {key.replace("__", "."): value for key, value in config.items()}
    await world.create("web1", config=keys, program=PROGRAM, start=True)
    return world.on_host("web1").spec


async def test_keys_are_parts_of_the_specification(world: World) -> None:
    spec = await run(
        world,
        isola__capabilities__add="net_admin, CAP_SYS_PTRACE",
        isola__capabilities__drop="ALL",
        isola__no_new_privileges="true",
        isola__seccomp="unconfined",
        isola__paths__masked="/proc/a,/proc/b",
        isola__paths__readonly="none",
        isola__groups="33,audio",
        isola__umask="027",
        isola__oom__score_adj="300",
        isola__shm__size="1MiB",
        limits__kernel__nofile="1024:4096",
        limits__kernel__core="unlimited",
        linux__sysctl__net__core__somaxconn="77",
    )
    assert spec.confinement == Confinement(
        ("NET_ADMIN", "SYS_PTRACE"), ("ALL",), True, "unconfined", ("/proc/a", "/proc/b"), ()
    )
    assert (spec.groups, spec.umask, spec.oom_score_adj) == (("33", "audio"), 0o27, 300)
    assert spec.shared_memory == 1 << 20
    assert spec.ulimits == {"nofile": (1024, 4096), "core": (-1, -1)} and spec.sysctls == {"net.core.somaxconn": "77"}


async def test_without_keys_the_specification_is_that_of_every_instance(world: World) -> None:
    spec = await run(world)
    assert spec.confinement == Confinement() and not spec.ulimits and not spec.sysctls and not spec.groups
    assert (spec.umask, spec.oom_score_adj, spec.shared_memory) == (None, None, 0)


@pytest.mark.parametrize(
    "text",
    [
        "isola.capabilities.add=FLY",
        "isola.seccomp={}",
        "isola.seccomp=off",
        "isola.paths.masked=proc",
        "isola.paths.masked=/proc/../etc",
        "isola.groups=a b",
        "isola.umask=99",
        "isola.oom.score_adj=1001",
        "isola.shm.size=1",
        "limits.kernel.nofile=9:1",
        "limits.kernel.nofile=x",
        "limits.kernel.files=1",
        "linux.sysctl.kernel.panic=1",
        "linux.sysctl.vm.swappiness=1",
        "linux.sysctl.net=1",
        "linux.sysctl.net/../kernel/panic=1",
    ],
)
async def test_impossible_values_and_names_are_refused(world: World, text: str) -> None:
    key, _, value = text.partition("=")
    with pytest.raises(InvalidInput) as refused:
        await world.create("web1", config={key: value})
    assert refused.value.field == f"config.{key}"


async def test_an_init_runs_the_program(world: World) -> None:
    assert isinstance(world.host.system, FakeSystem)
    world.host.system.programs["tini-static"] = Path("/usr/bin/tini-static")
    spec = await run(world, isola__init="true")
    assert spec.command == (INIT, "--", "/bin/app", "-v")
    assert spec.mounts == (Mount(INIT, "/usr/bin/tini-static", read_only=True),)


async def test_an_init_that_is_not_installed_is_named(world: World) -> None:
    assert isinstance(world.host.system, FakeSystem)
    for name in ("tini-static", "catatonit", "docker-init"):
        world.host.system.programs.pop(name, None)
    with pytest.raises(Unsupported, match="No small init"):
        await run(world, isola__init="true")


async def test_a_distribution_has_its_own_init(world: World) -> None:
    await world.create("web1", config={"isola.init": "true"}, start=True)
    assert world.on_host("web1").spec.command == ("/sbin/init",)


async def test_profiles_and_copies_carry_them(world: World) -> None:
    services = world.parts.services
    profile = services.profiles.get(Ref.default("default"))
    await services.profiles.create(Profile("few", "", {"limits.kernel.nofile": "7"}, profile.devices))
    made = await world.create("web1", profiles=("few",), config={"isola.umask": "077"}, program=PROGRAM)
    await world.finish(services.instances.copy(Source(made.ref), InstanceRequest(name="web2")))
    await world.finish(services.instances.start(Ref.default("web2")))
    spec = world.on_host("web2").spec
    assert spec.ulimits == {"nofile": (7, 7)} and spec.umask == 0o77 and spec.command == ("/bin/app", "-v")


async def test_a_root_is_read_only_from_the_next_start_on(world: World) -> None:
    root = {"type": "disk", "path": "/", "pool": "default", "readonly": "true"}
    await world.create("web1", devices={"root": root}, start=True)
    assert world.on_host("web1").spec.root.read_only
    await world.create("web2", start=True)
    assert not world.on_host("web2").spec.root.read_only


async def test_a_missing_directory_of_the_host_is_created_only_on_request(world: World) -> None:
    disk = {"type": "disk", "source": "/srv/new/data", "path": "/data"}
    with pytest.raises(NotFound, match="/srv/new/data does not exist"):
        await world.create("web1", devices={"data": disk}, start=True)
    assert not await world.host.files.exists(Path("/srv/new"))
    await world.create("web2", devices={"data": disk | {"create": "true"}}, start=True)
    assert await world.host.files.exists(Path("/srv/new/data"))


async def test_a_tmpfs_has_its_owner_and_permissions(world: World) -> None:
    disk = {"type": "disk", "source": "tmpfs:", "path": "/tmp", "mode": "1777", "uid": "5", "gid": "6"}
    made = await world.create("web1", devices={"tmp": disk}, start=True)
    graft = world.host.guest_mounts.grafts[-1]
    assert (graft.mode, graft.owner, graft.group) == (0o1777, made.idmap.base + 5, made.idmap.base + 6)


async def test_finer_limits_take_effect_on_a_running_instance(world: World) -> None:
    await world.create("web1", start=True)
    keys = {"limits.cpu.allowance": "50ms/100ms", "limits.memory": "64MiB", "limits.memory.swap": "64MiB"}

    def decide(found: Instance) -> InstanceUpdate:
        return InstanceUpdate(keys, found.devices, found.profiles)

    await world.finish(world.parts.services.instances.update(Ref.default("web1"), decide))
    limits = world.on_host("web1").limits
    assert limits.cpu_time == (50_000, 100_000) and limits.swap == limits.memory == 64 << 20


async def test_a_device_is_opened_as_its_key_says(world: World) -> None:
    device = {"type": "unix-char", "path": "/dev/kvm", "access": "r"}
    await world.create("web1", devices={"kvm": device}, start=True)
    assert set(world.on_host("web1").access.values()) == {"r"}
    with pytest.raises(InvalidInput, match="access"):
        await world.create("web2", devices={"kvm": device | {"access": "rx"}})
