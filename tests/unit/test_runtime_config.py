"""The OCI configuration of an instance, as a pure function of its spec and the host."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isola.model.capabilities import granted
from isola.model.confinement import Confinement
from isola.model.identity import PRIVILEGED, IdRange
from isola.model.network import HostNetwork
from isola.runtimes import ExecSpec, Root, RunSpec, Shareable, seccomp_profile
from isola.runtimes.oci.config import Surroundings, bundle, exec_process
from isola.runtimes.oci.config import given as given_paths
from isola.runtimes.oci.console import raw
from isola.runtimes.oci.layout import Layout
from isola.runtimes.oci.monitor import arguments, entering
from isola.runtimes.oci.mounts import LXCFS_FILES, mounts
from isola.runtimes.oci.seccomp import ALWAYS, KEYS, profile
from isola.runtimes.users import User

ALL = frozenset({"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_CHOWN", "CAP_SYS_BOOT", "CAP_SYS_MODULE", "CAP_SYS_TIME"})
OWN = Path("/proc/7/fd/9")
HERE = Surroundings(architecture="x86_64", release=(6, 1), bounding=ALL, cgroup="/isola/one", user_namespace=OWN)


def spec(**more: object) -> RunSpec:
    given = {
        "id": "one",
        "hostname": "web",
        "root": Root(Path("/r")),
        "idmap": IdRange(200000),
        "command": ("/sbin/init",),
    }
    return RunSpec(**{**given, **more})  # type: ignore[arg-type]


def test_every_instance_has_namespaces_of_its_own_and_no_host_ids() -> None:
    for system in (True, False):
        linux = bundle(spec(system=system), User(), HERE)["linux"]
        assert isinstance(linux, dict)
        kinds = {namespace["type"] for namespace in linux["namespaces"]}
        assert kinds == {"user", "pid", "mount", "uts", "ipc", "network", "cgroup"}
        paths = [namespace for namespace in linux["namespaces"] if "path" in namespace]
        assert paths == [{"type": "user", "path": str(OWN)}]
        assert linux["uidMappings"] == linux["gidMappings"] == [{"containerID": 0, "hostID": 200000, "size": 65536}]
        assert linux["resources"]["devices"][0] == {"allow": False, "access": "rwm"}
        assert linux["cgroupsPath"] == "/isola/one"


def test_control_groups_of_the_host_are_seen_and_not_changed() -> None:
    tree = Path("/sys/fs/cgroup/unified")
    outside = replace(HERE, groups=tree, seen=lambda path: Path("/seen") / path.name)
    shown = spec(host_namespaces=(Shareable.CGROUP,))
    assert tree in given_paths(shown, tree) and tree not in given_paths(spec(), tree)
    for wanted, kind, source in ((shown, "bind", "/seen/unified"), (spec(), "cgroup2", "cgroup2")):
        found = bundle(wanted, User(), outside)
        (mount,) = [each for each in found["mounts"] if each["destination"] == "/sys/fs/cgroup"]  # type: ignore[attr-defined]
        assert (mount["type"], mount["source"], "rbind" in mount["options"]) == (kind, source, False)
        kinds = {namespace["type"] for namespace in found["linux"]["namespaces"]}  # type: ignore[index]
        assert ("cgroup" in kinds, "ro" in mount["options"]) == (kind == "cgroup2", kind == "bind" or not wanted.system)


def test_sys_of_the_hosts_network_is_read_only_with_all_below_it() -> None:
    def options(**more: object) -> tuple[object, list[str]]:
        found = bundle(spec(network=HostNetwork(), system=False, **more), User(), HERE)
        (mount,) = [each for each in found["mounts"] if each["destination"] == "/sys"]  # type: ignore[attr-defined]
        return mount["type"], mount["options"]

    kind, given = options()
    assert kind == "bind" and {"rbind", "rslave", "rro"} <= set(given)
    kind, given = options(idmap=PRIVILEGED)
    assert kind == "sysfs" and "rw" in given and "rbind" not in given, "nothing that the host has mounted below it"


def test_capabilities_stay_within_what_the_host_can_give() -> None:
    for system in (True, False):
        assert set(granted(system=system, bounding=ALL)) <= ALL
        assert not {"CAP_SYS_MODULE", "CAP_SYS_TIME"} & set(granted(system=system, bounding=ALL))
    assert "CAP_AUDIT_READ" not in granted(system=True, bounding=ALL | {"CAP_AUDIT_READ"})
    assert "CAP_SYS_ADMIN" in granted(system=True, bounding=ALL)
    assert "CAP_SYS_ADMIN" not in granted(system=False, bounding=ALL)


CHOWN, ADMIN, TIME = "CAP_CHOWN", "CAP_NET_ADMIN", "CAP_SYS_TIME"


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ((), (), {CHOWN}),
        (("NET_ADMIN",), (), {CHOWN, ADMIN}),
        ((), ("CHOWN",), set()),
        (("SYS_TIME",), ("ALL",), {TIME}),
        (("ALL",), (), set(ALL)),
        (("ALL",), ("NET_ADMIN",), ALL - {ADMIN}),
        (("SYS_PTRACE",), (), {CHOWN}),
    ],
    ids=["default", "add", "drop", "drop all", "add all", "all but one", "beyond the daemon"],
)
def test_capabilities_are_added_and_dropped(add: tuple[str, ...], drop: tuple[str, ...], expected: set[str]) -> None:
    process = bundle(spec(confinement=Confinement(add=add, drop=drop)), User(), HERE)["process"]
    assert isinstance(process, dict)
    assert {frozenset(names) for names in process["capabilities"].values()} == {frozenset(expected)}


def linux_of(**more: object) -> dict[str, Any]:
    linux = bundle(spec(confinement=Confinement(**more)), User(), HERE)["linux"]  # type: ignore[arg-type]
    assert isinstance(linux, dict)
    return linux


def test_paths_are_masked_and_read_only_as_asked() -> None:
    assert "/proc/kcore" in linux_of()["maskedPaths"] and "/proc/sys" in linux_of()["readonlyPaths"]
    assert linux_of(masked=())["maskedPaths"] == [] and linux_of(read_only=("/proc/bus",))["readonlyPaths"] == [
        "/proc/bus"
    ]


def test_a_filter_is_the_default_or_none_or_one_s_own() -> None:
    assert linux_of()["seccomp"] == profile(system=False, architecture="x86_64")
    assert "seccomp" not in linux_of(seccomp="unconfined")
    own = linux_of(
        seccomp='{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "uname", "action": "SCMP_ACT_ERRNO"}]}'
    )
    assert own["seccomp"]["syscalls"] == [{"names": ["uname"], "action": "SCMP_ACT_ERRNO"}]


RULE = {"names": ["clone"], "action": "SCMP_ACT_ALLOW"}


@pytest.mark.parametrize(
    ("rule", "applies"),
    [
        ({}, True),
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, False),
        ({"includes": {"caps": ["CAP_CHOWN"]}}, True),
        ({"excludes": {"caps": ["CAP_CHOWN"]}}, False),
        ({"includes": {"arches": ["s390"]}}, False),
        ({"includes": {"arches": ["amd64", "x32"]}}, True),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"includes": {"minKernel": "6.2"}}, False),
    ],
)
def test_rules_of_a_profile_depend_on_the_instance(rule: dict[str, object], applies: bool) -> None:
    text = json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "syscalls": [RULE | rule]})
    found = seccomp_profile.parse(text, capabilities=["CAP_CHOWN"], architecture="x86_64", release=(6, 1))
    assert found["syscalls"] == ([RULE] if applies else []) and found["defaultErrnoRet"] == 1


def test_the_architectures_of_a_profile_are_those_below_the_host_s() -> None:
    entries = [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ]
    text = json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "archMap": entries})
    found = seccomp_profile.parse(text, capabilities=(), architecture="x86_64", release=(6, 1))
    assert found["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[" * 100_000,
        "{}",
        '{"defaultAction": "SCMP_ACT_NOTIFY"}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ERRNO"}]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [7]}',
        '{"defaultAction": "SCMP_ACT_LOG", "syscalls": [{"name": "a", "action": "SCMP_ACT_LOG", "errnoRet": 9999}]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x"]}',
        '{"defaultAction": "SCMP_ACT_LOG", "syscalls": [{"name": "a", "action": "SCMP_ACT_LOG", "args": [{"op": 1}]}]}',
        " " * 2_000_000,
    ],
    ids=["cut", "deep", "empty", "notify", "nameless", "number", "errno", "architecture", "operator", "long"],
)
def test_impossible_profiles_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        seccomp_profile.check(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["defaultAction", "syscalls", "names", "args", "includes", "caps", "archMap"]),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_any_json_is_a_profile_or_is_refused(value: object) -> None:
    with suppress(ValueError):
        seccomp_profile.check(json.dumps(value))


def test_the_program_s_groups_umask_and_shared_memory() -> None:
    made = bundle(spec(umask=0o27, shared_memory=65536, tmpfs=1 << 20), User(5, 6, (7, 8)), HERE)
    process, table = made["process"], made["mounts"]
    assert isinstance(process, dict) and isinstance(table, list)
    assert process["user"] == {"uid": 5, "gid": 6, "additionalGids": [6, 7, 8], "umask": 0o27}
    (shared,) = [mount["options"] for mount in table if mount["destination"] == "/dev/shm"]
    assert "size=65536" in shared


def test_the_score_of_the_oom_killer_is_set_only_where_the_kernel_allows_it() -> None:
    process = bundle(spec(), User(), HERE)["process"]
    assert isinstance(process, dict) and "oomScoreAdj" not in process
    able = Surroundings(
        architecture="x86_64",
        release=(6, 1),
        bounding=ALL | {"CAP_SYS_RESOURCE"},
        cgroup="/isola/one",
        user_namespace=OWN,
    )
    process = bundle(spec(), User(), able)["process"]
    assert isinstance(process, dict) and process["oomScoreAdj"] == 0


def test_the_instances_environment_overrides_the_defaults() -> None:
    process = bundle(spec(system=True, environment={"TERM": "dumb", "A": "1"}), User(), HERE)["process"]
    assert isinstance(process, dict)
    assert {"TERM=dumb", "A=1", "container=lxc", "HOME=/root"} <= set(process["env"])
    assert len(process["env"]) == len({line.partition("=")[0] for line in process["env"]})


def test_an_empty_home_is_that_of_the_user() -> None:
    for own, home in (({"HOME": ""}, "/root"), ({"HOME": "/srv"}, "/srv"), ({}, "/root")):
        process = bundle(spec(environment=own), User(), HERE)["process"]
        assert isinstance(process, dict)
        assert [line for line in process["env"] if line.startswith("HOME=")] == [f"HOME={home}"]


def test_a_further_command_is_confined_as_the_first_process_is() -> None:
    first = json.loads(json.dumps(bundle(spec(), User(), HERE)))["process"]
    process = exec_process(ExecSpec(("id",), {"X": "y"}, user=5, group=6, groups=(7,), cwd="/tmp"), first)
    assert process["capabilities"] == first["capabilities"]
    assert process["noNewPrivileges"] is False
    assert process["user"] == {"uid": 5, "gid": 6, "additionalGids": [6, 7]}
    assert process["terminal"] is False and process["cwd"] == "/tmp" and "consoleSize" not in process
    sized = exec_process(ExecSpec(("sh",), {}, terminal=True, width=100, height=40), first)
    assert sized["consoleSize"] == {"width": 100, "height": 40}


def test_a_distribution_may_mount_and_a_program_may_not() -> None:
    refused = {name for rule in rules(system=False) if not rule.get("args") for name in rule["names"]}
    assert {"mount", "unshare", "setns", "keyctl", *ALWAYS} <= refused
    refused = {name for rule in rules(system=True) if not rule.get("args") for name in rule["names"]}
    assert refused == {*ALWAYS, *KEYS}
    assert profile(system=True, architecture="riscv64")["architectures"] == []


def rules(*, system: bool) -> list[dict[str, list[str]]]:
    found = profile(system=system, architecture="x86_64")["syscalls"]
    assert isinstance(found, list)
    return found


def test_only_existing_files_of_lxcfs_are_mounted() -> None:
    table = mounts(system=True, lxcfs=Path("/lx"), lxcfs_files=("proc/meminfo", "proc/evil", "../x"))
    binds = [mount for mount in table if mount["type"] == "bind"]
    assert [(mount["source"], mount["destination"]) for mount in binds] == [("/lx/proc/meminfo", "/proc/meminfo")]
    assert "proc/uptime" in LXCFS_FILES
    assert not [mount for mount in mounts(system=True) if mount["type"] == "bind"]


@given(st.sampled_from(["socket", "socketpair"]), st.integers(0, 2**64 - 1), st.booleans())
def test_only_common_socket_families_are_allowed(call: str, family: int, system: bool) -> None:
    # The kernel uses the lower half of the register: the upper half must not hide a family from the filter.
    usual = family % 2**32 in (0, 1, 2, 10, 16, 17) or family % 2**32 >= 64
    assert refused(call, (family,), system=system) is (None if usual else 97)


@given(st.sampled_from([3, 15, 21, 30, 38, 40, 44]), st.integers(0, 2**32 - 1))
def test_rare_socket_families_are_refused(family: int, upper: int) -> None:
    # The kernel creates the sockets of a pair, and loads the module, before it reports that the family has no pairs.
    for call in ("socket", "socketpair"):
        assert refused(call, (upper << 32 | family,), system=True) == 97


@given(st.sampled_from([0x5000940E, 0x50009401, 0x50009417, 0x50009418]), st.integers(0, 2**32 - 1), st.booleans())
def test_subvolumes_cannot_be_created_to_escape_a_quota(request: int, upper: int, system: bool) -> None:
    assert refused("ioctl", (3, upper << 32 | request), system=system) == 25
    assert refused("ioctl", (3, 0x5401), system=system) is None


def test_kernel_keyrings_are_refused() -> None:
    for call in ("add_key", "keyctl", "request_key"):
        # After ENOSYS engines and service managers inside continue without keyrings; EPERM stops some of them.
        assert refused(call, (1,), system=True) == refused(call, (1,), system=False) == 38
    # The old 32-bit call passes the family in memory, which a filter cannot read; libraries use another call.
    assert refused("socketcall", (1,), system=True) == refused("socketcall", (8,), system=True) == 38
    assert refused("socketcall", (3,), system=True) is None


def test_the_console_has_a_size() -> None:
    process = bundle(spec(terminal=True, console=(123, 57)), User(), HERE)["process"]
    assert isinstance(process, dict) and process["consoleSize"] == {"width": 123, "height": 57}


def test_with_sys_admin_the_filter_is_that_of_a_system_container() -> None:
    able = replace(HERE, bounding=ALL)

    def filter_of(**confined: Any) -> object:
        config = bundle(spec(confinement=Confinement(**confined)), User(), able)
        assert isinstance(config["linux"], dict)
        return config["linux"]["seccomp"]

    loose, tight = (profile(system=system, architecture="x86_64") for system in (True, False))
    assert filter_of(add=("SYS_ADMIN",)) == filter_of(add=("ALL",)) == loose != tight
    assert filter_of(add=("NET_ADMIN",)) == filter_of(add=("ALL",), drop=("SYS_ADMIN",)) == tight
    named = {add: json.dumps(filter_of(add=add, system_calls=("mount",))) for add in (("SYS_ADMIN",), ("NET_ADMIN",))}
    assert ['"mount"' in text for text in named.values()] == [True, False]


def refused(call: str, arguments: tuple[int, ...], *, system: bool) -> int | None:
    """The error of a call by the profile: that of the first matching rule, as in the kernel."""
    rules = profile(system=system, architecture="x86_64")["syscalls"]
    assert isinstance(rules, list)
    for rule in rules:
        conditions = rule.get("args", [])
        if call in rule["names"] and all(fits(condition, arguments) for condition in conditions):
            return int(rule["errnoRet"])
    return None


def fits(condition: dict[str, int | str], arguments: tuple[int, ...]) -> bool:
    value = arguments[int(condition["index"])]
    assert condition["op"] == "SCMP_CMP_MASKED_EQ", "any other comparison is of 64 bits"
    return value & int(condition["value"]) == int(condition["valueTwo"])


def test_tmpfs_and_terminals_are_limited() -> None:
    table = {mount["destination"]: mount["options"] for mount in mounts(system=True, tmpfs=1 << 30, terminals=300)}
    for place in ("/run", "/dev/shm"):
        options = table[place]
        assert isinstance(options, list) and {"size=1073741824", "nr_inodes=65536"} <= set(options)
    pseudo = table["/dev/pts"]
    assert isinstance(pseudo, list) and "max=300" in pseudo


@pytest.mark.parametrize("system", [True, False])
def test_every_tmpfs_has_a_limit_of_inodes(system: bool) -> None:
    for mount in mounts(system=system, tmpfs=64 << 20):
        options = mount["options"]
        assert isinstance(options, list)
        assert mount["type"] != "tmpfs" or "nr_inodes=16384" in options, mount["destination"]


def test_only_a_distribution_may_write_its_groups() -> None:
    for system, access in ((True, "rw"), (False, "ro")):
        (group,) = [mount for mount in mounts(system=system) if mount["destination"] == "/sys/fs/cgroup"]
        assert isinstance(group["options"], list) and access in group["options"]


def test_the_monitor_s_command_line() -> None:
    layout = Layout.of(Path("/var/lib/isola"), "one")
    argv = arguments(layout, ["/usr/bin/unshare", "--mount", "crun"])
    assert argv[argv.index("--runtime") + 1] == "/usr/bin/unshare"
    passed = [argv[at + 1] for at, argument in enumerate(argv) if argument == "--runtime-arg"]
    assert passed[:4] == ["--mount", "crun", "--root", "/var/lib/isola/run/one/state"]
    entered = entering([Path("/a"), Path("/b")], argv)
    assert entered[3:7] == ["sh", "/a", "/b", "--"] and entered[7:] == argv


@given(st.binary(max_size=300).filter(lambda data: b"\n" not in data), st.booleans())
def test_the_console_log_contains_the_output(data: bytes, partial: bool) -> None:
    line = b"2026-11-21T10:00:00.000000000+00:00 stdout " + (b"P " if partial else b"F ") + data + b"\n"
    assert raw(b"rest of a lost line\n" + line) == (data if partial else data + b"\n")


@given(st.binary(max_size=500))
def test_any_log_can_be_read(log: bytes) -> None:
    assert len(raw(log)) <= len(log)


def test_the_log_is_cut_to_its_last_mebibyte() -> None:
    line = b"2026-11-21T10:00:00Z stdout F " + b"x" * 1023 + b"\n"
    assert len(raw(line * 2000)) == 1 << 20


def test_files_of_the_run_are_as_read_only_as_the_root_and_late_ones_are_not_mounted_by_the_engine() -> None:
    for read_only in (False, True):
        root = Root(Path("/r"), read_only=read_only)
        files = {"/etc/hosts": "a", "/etc/hostname": "b"}
        made: Any = bundle(spec(root=root, files=files, late_files=("/etc/hosts",)), User(), HERE)["mounts"]
        assert not [each for each in made if each["destination"] == "/etc/hosts"]
        (file,) = (each for each in made if each["destination"] == "/etc/hostname")
        assert ("ro" in file["options"], "rw" in file["options"]) == (read_only, not read_only)
