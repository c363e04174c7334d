"""The contract of runtime drivers for system calls: real ones, made inside, and what the kernel answers."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import system_calls
from applications import application
from runtime_bench import Bench

from isola.model.confinement import Confinement
from isola.runtimes import Capability, Mount, RunSpec

PROGRAM = Path(system_calls.__file__).read_bytes()
HOST = tuple(Mount(f"/{name}", f"/usr/{name.removeprefix('usr')}", read_only=True) for name in ("usr", "lib", "lib64"))
"""The host's Python."""
COMMON = frozenset({"UNIX", "INET", "INET6", "NETLINK", "PACKET"})
RARE = system_calls.FAMILIES.keys() - COMMON
KEYS = {"add_key", "keyctl", "request_key"}
KERNEL = {
    "acct", "bpf", "clock_settime", "create_module", "delete_module", "finit_module", "init_module", "io_uring_enter",
    "io_uring_register", "io_uring_setup", "ioperm", "iopl", "kexec_file_load", "kexec_load", "lookup_dcookie",
    "move_pages", "open_by_handle_at", "perf_event_open", "settimeofday", "swapoff", "swapon", "syslog", "uselib",
    "userfaultfd",
}  # fmt: skip
WITHOUT_THE_RIGHT = {"acct", "swapoff", "swapon", "syslog"}
"""The kernel itself gives the same answer."""
OF_SERVICE_MANAGERS = {
    "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount",
    "name_to_handle_at", "open_tree", "pivot_root", "setns", "sethostname", "umount2", "unshare",
}  # fmt: skip
EVERYBODYS = {
    "epoll_create1", "eventfd2", "inotify_init1", "landlock_create_ruleset", "memfd_create", "openat2", "pidfd_open",
    "rseq", "seccomp", "signalfd4", "statx", "timerfd_create",
}  # fmt: skip
HERE = system_calls.NUMBERS.keys() | system_calls.EVERYWHERE.keys()
NATIVE = platform.machine() == "x86_64"


async def answers(bench: Bench, spec: RunSpec) -> dict[str, str]:
    await bench.launch(spec)
    status, out, err = await bench.run("/usr/bin/python3", "-", stdin=PROGRAM)
    assert status == 0, err
    await bench.runtime.remove("one")
    found: dict[str, str] = json.loads(out)
    return found


def refused(of: dict[str, str], names: set[str], error: str) -> bool:
    """Whether all of these calls, as far as this architecture has them, got this error."""
    assert {name: of[name] for name in names & HERE} == dict.fromkeys(names & HERE, error)
    return True


def reached(of: dict[str, str], names: set[str]) -> bool:
    """Whether the kernel has looked at the arguments of these calls, or had no right to object to."""
    return not {name: of[name] for name in names & HERE if of[name] in {"EPERM", "ENOSYS", "EAFNOSUPPORT"}}


def families(of: dict[str, str]) -> dict[str, str]:
    return {key: error for key, error in of.items() if key.startswith("socket")}


async def test_rare_families_and_calls_into_the_kernel_are_refused_in_systems(bench: Bench) -> None:
    if not bench.real or not bench.has(Capability.FILTERS):
        return
    found = await answers(bench, bench.spec(mounts=HOST))
    for family in RARE:
        assert found[f"socket {family}"] == found[f"socketpair {family}"] == "EAFNOSUPPORT", family
    assert found["socket ALG, upper half set"] == "EAFNOSUPPORT"
    # Denied twice: libseccomp turns the rules for `socket` into some for `socketcall`, which may come first.
    assert found["socketcall ALG"] in ({"ENOSYS", "EAFNOSUPPORT"} if NATIVE else {"none"})
    assert refused(found, KEYS, "ENOSYS") and refused(found, KERNEL, "EPERM")
    assert found["umount2 forced"] == "EPERM" and found["ioctl subvolume"] == "ENOTTY"
    assert {found[f"socket {family}"] for family in COMMON} == {"EINVAL"}
    assert reached(found, EVERYBODYS | OF_SERVICE_MANAGERS - {"fanotify_init"}), found
    assert found["clone3"] == "EINVAL"


async def test_applications_get_neither_mounts_nor_namespaces(bench: Bench) -> None:
    if not bench.real or not bench.has(Capability.FILTERS):
        return
    found = await answers(bench, application(bench, mounts=HOST))
    for family in RARE:
        assert found[f"socket {family}"] == "EAFNOSUPPORT", family
    assert refused(found, KEYS | {"clone3"}, "ENOSYS") and refused(found, KERNEL | OF_SERVICE_MANAGERS, "EPERM")
    assert found["ioctl subvolume"] == "ENOTTY" and reached(found, EVERYBODYS), found


async def test_applications_that_may_administer_get_what_systems_get(bench: Bench) -> None:
    if not bench.real or not bench.has(Capability.FILTERS):
        return
    found = await answers(bench, application(bench, mounts=HOST, confinement=Confinement(("SYS_ADMIN",))))
    for family in RARE:
        assert found[f"socket {family}"] == "EAFNOSUPPORT", family
    assert refused(found, KEYS, "ENOSYS") and refused(found, KERNEL, "EPERM")
    assert reached(found, EVERYBODYS | OF_SERVICE_MANAGERS - {"fanotify_init"}), found
    assert found["clone3"] == "EINVAL" and found["umount2 forced"] == "EPERM"


async def test_without_the_filter_the_kernel_would_be_reached(bench: Bench) -> None:
    """Otherwise the tests above would show nothing."""
    if not bench.real or not bench.has(Capability.FILTERS):
        return
    found = await answers(bench, bench.spec(mounts=HOST, confinement=Confinement(seccomp="unconfined")))
    assert "EAFNOSUPPORT" not in families(found).values() and found["socketcall ALG"] in {"EINVAL", "none"}
    assert not [name for name in KEYS if found[name] == "ENOSYS"]
    assert {name for name in KERNEL & HERE if found[name] == "EPERM"} <= WITHOUT_THE_RIGHT
