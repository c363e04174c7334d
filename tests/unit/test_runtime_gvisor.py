"""gVisor: versions and options of runsc, its configuration, and the choice of a platform."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from isola import registry
from isola.model.identity import IdRange
from isola.model.instance import Address, InterfaceState
from isola.model.network import HostNetwork, NetworkNamespace
from isola.runtimes import Root, RunSpec
from isola.runtimes.gvisor import interfaces
from isola.runtimes.gvisor.beginning import creating
from isola.runtimes.gvisor.config import adapted
from isola.runtimes.gvisor.options import Version, has_own_network, options
from isola.runtimes.gvisor.platform import KNOWN, platform
from isola.runtimes.oci.config import Surroundings, bundle
from isola.runtimes.users import User
from isola.testing.host import FakeHost, fake_host
from isola.testing.processes import Call, Program
from isola.testing.system import FakeSystem

RUNSC = Path("/usr/bin/runsc")
OLD, NEW = "runsc version 0.0~20221219.0\nspec: 1.0.2-dev\n", "runsc version release-20240729.0\n"
HERE = Surroundings(
    architecture="x86_64",
    release=(6, 1),
    bounding=frozenset({"CAP_SYS_ADMIN", "CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"}),
    cgroup="/isola/one",
    user_namespace=Path("/proc/7/fd/9"),
    lxcfs_files=("proc/meminfo",),
)


def spec(**more: object) -> RunSpec:
    given = {"id": "one", "hostname": "web", "root": Root(Path("/r")), "idmap": IdRange(200000), "command": ("/init",)}
    return RunSpec(**{**given, **more})  # type: ignore[arg-type]


# --- pure ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "day"), [(OLD, 20221219), (NEW, 20240729), ("runsc version 0.0-20240101.1", 20240101), ("nonsense", 0)]
)
def test_versions(said: str, day: int) -> None:
    assert Version.read(said).day == day


def test_files_are_written_to_the_volume_and_opened_by_the_gofer() -> None:
    old, new = (options(Version.read(said), "ptrace", own_network=True) for said in (OLD, NEW))
    assert {"--overlay2=none", "--directfs=false"} <= set(new) and not {"--overlay2=none"} & set(old)
    for given in (old, new):
        assert {"--network=sandbox", "--file-access=shared", "--ignore-cgroups", "--platform=ptrace"} <= set(given)
    assert "--network=host" in options(Version(), "ptrace", own_network=False)


def test_only_the_own_namespace_is_taken_over_by_a_network_stack() -> None:
    assert has_own_network(spec())
    assert has_own_network(spec(network=NetworkNamespace(Path("/netns/one"))))
    assert not has_own_network(spec(network=NetworkNamespace(Path("/netns/two"))))
    assert not has_own_network(spec(network=HostNetwork()))
    assert not has_own_network(spec(network=NetworkNamespace(Path("/netns/one")), host_stack=True))


def test_the_configuration_has_nothing_of_the_host_s_kernel() -> None:
    for system in (True, False):
        config: Any = adapted(bundle(spec(system=system, tmpfs=1 << 20, lxcfs=Path("/lxcfs")), User(), HERE))
        assert {mount["type"] for mount in config["mounts"]} <= {"bind", "proc", "sysfs", "tmpfs", "devpts", "kept"}
        assert not [mount for mount in config["mounts"] if mount["destination"].startswith(("/proc/", "/sys/"))]
        assert [mount["type"] for mount in config["mounts"] if mount["destination"] == "/tmp"] == ["kept"]
        assert "nr_inodes" not in json.dumps(config["mounts"]) and "size=1048576" in json.dumps(config["mounts"])
        assert "seccomp" not in config["linux"] and "cgroupsPath" not in config["linux"]
        assert {"type": "user"} in config["linux"]["namespaces"], "it cannot join one"
        assert config["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 200000, "size": 65536}]
        assert "CAP_CHECKPOINT_RESTORE" not in json.dumps(config["process"])


def test_the_monitor_s_name_of_an_instance_is_replaced(tmp_path: Path) -> None:
    group = tmp_path / "group"
    group.mkdir()
    argv = creating("isola-one", [group], ["/bin/echo", "--flag", "a b"])
    done = subprocess.run([*argv, "create", "--bundle", "x y", "one"], capture_output=True, text=True, check=True)
    assert done.stdout == "--flag a b create --bundle x y isola-one\n"
    assert (group / "cgroup.procs").read_text() == "0\n"


def test_interfaces_are_read_back() -> None:
    found = (InterfaceState("lo"), InterfaceState("eth0", (Address("inet", "10.0.0.2", "24", "global"),)))
    assert interfaces.decode(interfaces.encode(found)) == found
    for broken in (b"[]", b"{", b'{"a": 1}', b'{"a": [1]}'):
        with pytest.raises(ValueError):
            interfaces.decode(broken)


# --- platforms -----------------------------------------------------------------------------------------------------


def host(said: str, *works: str, **programs: Program) -> FakeHost:
    async def runsc(call: Call) -> int:
        call.out(said.encode())
        return 0

    async def trial(call: Call) -> int:
        name = next(word for word in call.argv if word.startswith("--platform=")).partition("=")[2]
        if name in works:
            call.out(said.encode())
            return 0
        call.err(f"{name} does not work\n".encode())
        return 1

    system = FakeSystem(programs={name: Path("/usr/bin") / name for name in ("runsc", "conmon")})
    return fake_host(programs={"runsc": runsc, "unshare": trial, **programs}, system=system)


async def test_the_first_platform_that_runs_a_program_is_taken() -> None:
    for said, works, name in ((NEW, ("systrap", "ptrace"), "systrap"), (NEW, ("ptrace",), "ptrace"), (OLD, (), "")):
        on = host(said, *works)
        await on.files.make_directory(Path("/run"))
        found = await platform(on, RUNSC)
        assert found.name == name
        assert not [path for path in await on.files.names(Path("/run")) if path.startswith("isola-trial")]


async def test_a_trial_is_repeated_only_if_none_worked() -> None:
    on = host(OLD, "ptrace")
    await on.files.make_directory(Path("/run"))
    first = await platform(on, RUNSC)
    trials = [call for call in on.processes.calls if "run" in call.argv]
    assert await platform(on, RUNSC) == first and first.refused["kvm"] == "there is no /dev/kvm"
    assert [call for call in on.processes.calls if "run" in call.argv] == trials
    await on.files.write(KNOWN, b"{broken")
    assert (await platform(on, RUNSC)).name == "ptrace"


async def test_kvm_is_not_tried_in_a_virtual_machine() -> None:
    on = host(OLD, "kvm", "ptrace")
    for directory in ("/run", "/dev", "/proc"):
        await on.files.make_directory(Path(directory))
    await on.files.write(Path("/dev/kvm"), b"")
    await on.files.write(Path("/proc/cpuinfo"), b"flags : fpu hypervisor\n")
    found = await platform(on, RUNSC)
    assert found.name == "ptrace" and "virtual machine" in found.refused["kvm"]


async def test_the_probe_says_why_no_platform_works() -> None:
    kind = registry.load("runtimes", "runsc")
    on = host(NEW)
    await on.files.make_directory(Path("/run"))
    probe = await kind.probe(on)
    assert not probe.available and "systrap: systrap does not work" in probe.reason and probe.remedy
    on = host(OLD, "ptrace")
    await on.files.make_directory(Path("/run"))
    probe = await kind.probe(on)
    assert probe.available and probe.version.endswith("(ptrace)") and probe.warnings


async def test_a_trial_that_is_cancelled_leaves_nothing() -> None:
    begun = asyncio.Event()

    async def hangs(call: Call) -> int:
        begun.set()
        await asyncio.Event().wait()
        return 0

    on = host(NEW, unshare=hangs)
    await on.files.make_directory(Path("/run"))
    probing = asyncio.ensure_future(platform(on, RUNSC))
    await begun.wait()
    probing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probing
    assert not [path for path in await on.files.names(Path("/run")) if path.startswith("isola-trial")]
