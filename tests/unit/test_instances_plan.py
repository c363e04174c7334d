"""Pure decisions about instances: expansion, limits, and the actions of a restarted daemon."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isola.errors import InvalidInput, IsolaError, NotFound, Unsupported
from isola.instances.expand import merge, require, root_pool, validate
from isola.instances.limits import limits_of, load_of, tmpfs_size
from isola.instances.reconcile import Verdict, judge
from isola.instances.settings import SETTINGS
from isola.model.identity import HostNames, IdRange
from isola.model.instance import Desired, Instance
from isola.model.limits import Limits
from isola.model.names import alias_name, instance_name, network_name, plain_name
from isola.model.profile import Profile
from isola.model.signals import signal_number
from isola.model.units import format_size, parse_cpu_set, parse_size

ROOT = {"type": "disk", "path": "/", "pool": "default"}
NIC = {"type": "nic", "network": "isolabr0", "name": "eth0"}
GIB = 2**30


def instance(**facts: object) -> Instance:
    return Instance(id="1" * 16, name="web1", image="", idmap=IdRange(10**6), created_at=datetime.now(UTC), **facts)  # type: ignore[arg-type]


def test_later_profiles_win_over_earlier_and_the_instance_over_all() -> None:
    first = Profile("a", config={"k": "a", "only": "a"}, devices={"root": ROOT, "eth0": NIC})
    second = Profile("b", config={"k": "b"}, devices={"eth0": {"type": "none"}})
    config, devices = merge([first, second], {"k": "mine"}, {})
    assert config == {"k": "mine", "only": "a"}
    assert devices["eth0"] == {"type": "none"} and devices["root"] == ROOT


@pytest.mark.parametrize(
    ("devices", "field"),
    [
        ({"eth0": {"type": "nic"}}, "devices.eth0.network"),
        ({"eth0": NIC | {"hwaddr": "zz"}}, "devices.eth0.hwaddr"),
        ({"eth0": NIC | {"hwaddr": "01:00:00:00:00:00"}}, "devices.eth0.hwaddr"),
        ({"eth0": NIC | {"name": "../x"}}, "devices.eth0.name"),
        ({"eth0": NIC | {"mtu": "12"}}, "devices.eth0.mtu"),
        ({"eth0": NIC | {"ipv4.address": "fe80::1"}}, "devices.eth0.ipv4.address"),
        ({"eth0": NIC | {"bogus": "1"}}, "devices.eth0.bogus"),
        ({"x": {"path": "/"}}, "devices.x.type"),
        ({"x": {"type": "gpu"}}, "devices.x.type"),
        ({"x": {"type": "disk", "path": "/data"}}, "devices.x.source"),
    ],
)
def test_wrong_devices_are_refused_with_their_field(devices: dict[str, dict[str, str]], field: str) -> None:
    with pytest.raises((InvalidInput, Unsupported)) as caught:
        validate({}, devices)
    assert caught.value.field == field


def test_every_instance_needs_a_root_and_networks_that_exist() -> None:
    with pytest.raises(InvalidInput, match="root disk"):
        root_pool({"eth0": NIC})

    def nothing(name: str) -> object:
        raise NotFound(f"{name} not found")

    with pytest.raises(NotFound, match="isolabr0 not found"):
        require({"root": ROOT, "eth0": NIC}, network=nothing, pool=lambda name: name)
    with pytest.raises(InvalidInput, match="both take interface eth0"):
        require({"root": ROOT, "a": NIC, "b": NIC}, network=lambda name: name, pool=lambda name: name)


def test_only_ports_that_are_named_are_taken_once() -> None:
    def proxies(listen: str) -> dict[str, dict[str, str]]:
        return {name: {"type": "proxy", "listen": listen, "connect": "tcp:0.0.0.0:80"} for name in ("a", "b")}

    require({"root": ROOT} | proxies("tcp:0.0.0.0:0"), network=lambda name: name, pool=lambda name: name)
    with pytest.raises(InvalidInput, match=r"both take host tcp:0\.0\.0\.0:80"):
        require({"root": ROOT} | proxies("tcp:0.0.0.0:80"), network=lambda name: name, pool=lambda name: name)


def test_limits_in_the_kernels_units() -> None:
    config = {"limits.memory": "512MiB", "limits.cpu": "1", "limits.processes": "100"}
    limits = limits_of(config, memory_total=8 * GIB, cpus=[0, 1], load={0: 3, 1: 1})
    assert (limits.memory, limits.cpus, limits.processes) == (512 * 2**20, (1,), 100)
    assert limits_of({}, memory_total=GIB, cpus=[0], load={}) == Limits(processes=8192, by_default=True)
    assert limits_of({"limits.memory": "25%"}, memory_total=8 * GIB, cpus=[0], load={}).memory == 2 * GIB
    assert limits_of({"limits.cpu": "0-1"}, memory_total=GIB, cpus=[0, 1, 2], load={}).cpus == (0, 1)
    assert limits_of({"limits.cpu": "8"}, memory_total=GIB, cpus=[0, 1], load={}).cpus is None
    assert limits_of({}, memory_total=GIB, cpus=[0, 1], load={}).memory is None
    with pytest.raises(InvalidInput, match="no CPU 7"):
        limits_of({"limits.cpu": "1,7"}, memory_total=GIB, cpus=[0, 1], load={})


@pytest.mark.parametrize(
    ("config", "system", "room"),
    [
        ({}, True, 8 * GIB // 10),
        ({"limits.memory": "2GiB"}, True, 2 * GIB // 10),
        ({"limits.memory": "100MiB"}, True, 64 << 20),
        ({"limits.tmpfs": "50%"}, True, 4 * GIB),
        ({"limits.tmpfs": "5MiB"}, True, 5 << 20),
        ({}, False, 64 << 20),
        ({"limits.tmpfs": "1GiB"}, False, GIB),
    ],
)
def test_the_size_of_a_tmpfs_is_a_share_of_the_memory_limit(config: dict[str, str], system: bool, room: int) -> None:
    memory = limits_of(config, memory_total=8 * GIB, cpus=[0], load={}).memory or 8 * GIB
    assert tmpfs_size(config, memory, system=system) == room


def test_cpus_are_distributed_evenly() -> None:
    placed: list[tuple[int, ...] | None] = []
    for _ in range(8):
        limits = limits_of({"limits.cpu": "1"}, memory_total=GIB, cpus=[0, 1, 2, 3], load=load_of(placed))
        placed.append(limits.cpus)
    assert sorted(load_of(placed).values()) == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("limits.memory", "much"),
        ("limits.memory", "0%"),
        ("limits.memory", "101%"),
        ("limits.memory", "1KiB"),
        ("limits.memory", "9" * 30),
        ("limits.cpu", "0"),
        ("limits.cpu", "3-1"),
        ("limits.processes", "-5"),
        ("limits.processes", "٣"),
        ("boot.autostart", "perhaps"),
        ("security.privileged", "maybe"),
        ("isola.namespaces.network", "container:"),
        ("isola.namespaces.pid", "none"),
        ("isola.terminal.size", "80"),
        ("isola.terminal.size", "0x25"),
        ("isola.terminal.size", "80x65536"),
        ("isola.devices.allow", "c 1:x rwm"),
        ("limits.memroy", "1GiB"),
    ],
)
def test_invalid_settings_are_refused_with_key_and_remedy(key: str, value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        SETTINGS.validate({key: value})
    assert caught.value.field == f"config.{key}"
    assert caught.value.remedy


def test_a_misspelt_key_suggests_the_right_one() -> None:
    with pytest.raises(InvalidInput, match=r"limits\.memory"):
        SETTINGS.validate({"limits.memroy": "1GiB"})


@pytest.mark.parametrize(
    ("record", "runs", "boot", "autostart", "verdict"),
    [
        (instance(desired=Desired.RUNNING, volatile={"last_state.boot": "b1"}), True, "b1", None, Verdict.ADOPT),
        (instance(desired=Desired.STOPPED), True, "b1", None, Verdict.CLEAN),
        (instance(desired=Desired.RUNNING, volatile={"last_state.boot": "b1"}), False, "b1", None, Verdict.CLEAN),
        (instance(desired=Desired.RUNNING, volatile={"last_state.boot": "b0"}), False, "b1", None, Verdict.START),
        (instance(desired=Desired.STOPPED, volatile={"last_state.boot": "b0"}), False, "b1", None, Verdict.CLEAN),
        (instance(desired=Desired.STOPPED, volatile={"last_state.boot": "b0"}), False, "b1", True, Verdict.START),
        (instance(desired=Desired.RUNNING, volatile={"last_state.boot": "b0"}), False, "b1", False, Verdict.CLEAN),
        (instance(desired=Desired.STOPPED, volatile={"last_state.boot": "b1"}), False, "b1", True, Verdict.CLEAN),
        (instance(desired=Desired.DELETED), True, "b1", True, Verdict.DELETE),
    ],
)
def test_actions_of_a_restarted_daemon(
    record: Instance, runs: bool, boot: str, autostart: bool | None, verdict: Verdict
) -> None:
    assert judge(record, runs=runs, boot=boot, autostart=autostart) is verdict


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"limits.cpu.allowance": "25ms/100ms"}, {"cpu_time": (25_000, 100_000)}),
        ({"limits.cpu.allowance": "1500us/1ms"}, {"cpu_time": (1500, 1000)}),
        ({"limits.cpu.allowance": "50%"}, {"cpu_shares": 512}),
        ({"limits.cpu.priority": "4"}, {"cpu_shares": 1018}),
        ({"limits.cpu.allowance": "50%", "limits.cpu.priority": "0"}, {"cpu_shares": 502}),
        ({"isola.limits.cpu.shares": "7", "limits.cpu.allowance": "50%"}, {"cpu_shares": 7}),
        ({"limits.memory.swap": "true"}, {"swap": None}),
        ({"limits.memory.swap": "1GiB"}, {"swap": GIB}),
        ({"isola.limits.memory.reservation": "1GiB"}, {"memory_reserved": GIB}),
        ({"isola.limits.memory.swappiness": "0"}, {"swappiness": 0}),
        ({"isola.limits.memory.oom_kill": "false"}, {"kill_when_full": False}),
        ({"isola.limits.memory.nodes": "0-1"}, {"memory_nodes": (0, 1)}),
        ({"limits.disk.priority": "0"}, {"io_weight": 10}),
        (
            {
                "isola.limits.disk.read_bps": "/dev/sda:1MiB, /dev/disk/by-path/a:b:5",
                "isola.limits.disk.write_iops": "/dev/sda:7",
            },
            {"disk_rates": ("read_bps:/dev/sda:1048576", "read_bps:/dev/disk/by-path/a:b:5", "write_iops:/dev/sda:7")},
        ),
        ({"limits.disk.priority": "5", "isola.limits.disk.weight": "77"}, {"io_weight": 77}),
    ],
)
def test_finer_limits_are_those_of_the_configuration(config: dict[str, str], expected: dict[str, object]) -> None:
    validate(config, {})
    limits = limits_of(config, memory_total=GIB, cpus=[0], load={})
    assert limits == Limits(processes=8192, by_default=True, **expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "config",
    [
        {"limits.cpu.allowance": "0%"},
        {"limits.cpu.allowance": "1us/100ms"},
        {"limits.cpu.allowance": "10ms/2000ms"},
        {"limits.cpu.allowance": "half"},
        {"isola.limits.cpu.shares": "1"},
        {"limits.memory.swap": "some"},
        {"isola.limits.memory.swappiness": "101"},
        {"isola.limits.disk.weight": "9"},
    ],
)
def test_impossible_finer_limits_are_refused(config: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        validate(config, {})


@given(st.text(max_size=80))
def test_valid_names_are_safe_for_paths_and_links(name: str) -> None:
    for check in (instance_name, network_name, plain_name, alias_name):
        try:
            passed = check(name)
        except IsolaError:
            continue
        assert passed == name and "\0" not in name and ".." not in name.split("/") and not name.startswith("/")
        assert name.isascii() and not any(c.isspace() for c in name)


@pytest.mark.parametrize(("name", "valid"), [("0abc", True), ("a", True), ("3-4", True), ("42", False), ("0-", False)])
def test_names_of_instances_are_labels_of_host_names_but_no_numbers(name: str, valid: bool) -> None:
    if valid:
        assert instance_name(name) == name
    else:
        with pytest.raises(InvalidInput):
            instance_name(name)


def test_daemons_side_by_side_never_share_names() -> None:
    one, two = HostNames.of_directory("/var/lib/isola"), HostNames.of_directory("/srv/other")
    assert one.bridge("isolabr0") == "isolabr0"
    for names in (one, two):
        assert len(names.bridge("a-long-network")) <= 15
        assert len(names.veth("1" * 16, "eth0")) <= 15
    assert one.veth("1" * 16, "eth0") != two.veth("1" * 16, "eth0")
    assert one.table("isolabr0") != two.table("isolabr0")
    assert one.cgroup("x") != two.cgroup("x")


def test_sizes_sets_and_signals() -> None:
    assert parse_size("1GiB") == GIB and parse_size("1GB") == 10**9 and parse_size("17") == 17
    assert format_size(512) == "512B" and format_size(1536) == "1.50KiB" and format_size(3 * GIB) == "3.00GiB"
    assert parse_cpu_set("0-2,5") == (0, 1, 2, 5)
    assert signal_number("SIGRTMIN+3") == 37 and signal_number("TERM") == 15 and signal_number(9) == 9
    for wrong in ("SIGNOPE", "RTMIN+99", 0, 65, "9" * 5000):
        with pytest.raises(InvalidInput):
            signal_number(wrong)
