"""gVisor: versions and options of runsc, its configuration, and the choice of a platform."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from isola import registry
from isola.model.identity import IdRange
from isola.model.instance import Address, InterfaceState
from isola.model.network import HostNetwork, NetworkNamespace
from isola.runtimes import Root, RunSpec
from isola.runtimes.gvisor import interfaces, refusals
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


# --- refused calls -------------------------------------------------------------------------------------------------


def noted(*lines: str) -> dict[tuple[int, str], int]:
    """By the program that reads the log, as busybox runs it."""
    program = refusals.noting(Path("/run/one"), 7, ["engine"])[-2]
    log = "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")
    done = subprocess.run(["busybox", "awk", program], input=log, capture_output=True, check=True)
    assert refusals.is_whole(done.stdout) and not refusals.is_whole(done.stdout[:-1])
    return dict(refusals.read(done.stdout))


def logged(task: int, text: str) -> str:
    return f"D1123 04:40:28.311809   11496 task_syscall.go:240] [{task: 4d}:{task: 4d}] {text}"


def test_refusals_in_the_log_of_its_kernel_are_counted_by_program() -> None:
    found = noted(
        logged(2, 'Set thread name to "busybox"'),
        logged(2, "Syscall 92: denied by seccomp"),
        logged(12, "Syscall 92: denied by seccomp"),
        "D1123 04:40:28 client.go:400] send [channel 0xc0003aa3f0] WalkReq{DirFD: 1, Path: [, tmp, ]}",
        logged(2, "Syscall 92: denied by seccomp"),
        logged(2, "Transitioning from exit state TaskExitZombie to TaskExitDead"),
        logged(2, "Syscall -1: denied by seccomp"),
    )
    assert found == {(92, "busybox"): 2, (92, "?"): 1, (-1, "?"): 1}
    assert noted() == {}


def test_names_of_programs_and_how_many_there_are_cannot_do_harm() -> None:
    hostile = noted(logged(1, r'Set thread name to "a b\n92 c\" 9"'), logged(1, "Syscall 1: denied by seccomp"))
    assert list(hostile) == [(1, "a?b?n92?c???9")]
    assert len(noted(*(logged(1, f"Syscall {number}: denied by seccomp") for number in range(1000)))) == 32
    assert noted("\udcff[" + "x" * 100_000, logged(1, "Syscall 1: denied by seccomp")) == {(1, "?"): 1}


def test_large_counts_are_noted_now_and_then() -> None:
    for times in (15, 16):
        assert noted(*[logged(1, "Syscall 1: denied by seccomp")] * times) == {(1, "?"): times}
    (count,) = noted(*[logged(1, "Syscall 1: denied by seccomp")] * 10_000).values()
    assert 8_000 <= count <= 10_000
    assert refusals.read(b"92 busybox 1\nx\n1 2\n1 a b\n92 busybox 3\n92 busyb") == {(92, "busybox"): 3}


def test_what_is_logged_before_and_after_the_engine_is_there_is_read(tmp_path: Path) -> None:
    """The reader is another process; here it is one that copies."""
    (tmp_path / "setpriv").write_text("#!/bin/sh\nexec cat\n")
    (tmp_path / "setpriv").chmod(0o755)
    engine = 'echo "$0 $*" >"$1/debug.fifo"; (sleep 0.1; echo later) >&9 & echo made'
    argv = refusals.noting(tmp_path, 7, ["sh", "-c", engine, "engine", str(tmp_path)])
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run([*argv, "create"], env={"PATH": path}, capture_output=True, text=True, check=True)
    assert done.stdout == "made\n"
    until(lambda: (tmp_path / "refused").read_text() == f"engine {tmp_path} create\nlater\n")
    number = int((tmp_path / "refused.pid").read_text())
    until(lambda: not Path(f"/proc/{number}").exists())


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


@pytest.mark.parametrize(("said", "without_overlay"), [(NEW, True), (OLD, False)])
async def test_a_trial_lets_its_root_be(said: str, without_overlay: bool) -> None:
    """Where /run is mounted noexec, a remount without that flag is refused to a user namespace."""
    seen: list[tuple[bool, bool]] = []

    async def trial(call: Call) -> int:
        bundle = Path(call.argv[call.argv.index("--bundle") + 1])
        config = json.loads(await on.files.read(bundle / "config.json"))
        seen.append(("--overlay2=none" in call.argv, config["root"]["readonly"]))
        call.out(said.encode())
        return 0

    on = host(said, unshare=trial)
    await on.files.make_directory(Path("/run"))
    assert (await platform(on, RUNSC)).name and seen == [(without_overlay, False)]


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
