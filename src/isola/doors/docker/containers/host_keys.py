"""Fields of ``HostConfig`` that are configuration keys of instances: both directions, field by field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from isola.doors.docker.containers.behaviour_keys import (
    extra_hosts,
    hosts_keys,
    log_keys,
    restart_keys,
    restart_policy,
)
from isola.doors.docker.containers.resource_keys import (
    DISK_RATES,
    cpu_period,
    cpu_quota,
    cpu_set,
    cpu_set_keys,
    cpu_share_keys,
    cpu_time_keys,
    disk_rates,
    memory,
    memory_and_swap,
    memory_keys,
    nano_cpus,
    number,
    oom_kill_disabled,
    oom_kill_keys,
)
from isola.doors.http.reading import Fields
from isola.errors import InvalidInput
from isola.model.capabilities import capabilities
from isola.model.instance import Config
from isola.model.units import parse_size

_SHM = 64 * 2**20
_MOST_PROCESSES = 4_194_304
_SYSCTL, _ULIMIT = "linux.sysctl.", "limits.kernel."
_NO_PATHS = "none"
_MOST_CELLS = 65535
Keys = dict[str, str]


@dataclass(frozen=True, slots=True)
class HostKey:
    """One field."""

    field: str
    keys: Callable[[Fields], Keys]
    """Configuration keys of the request's field; none where it has its default."""
    value: Callable[[Config], Any]
    """The field's value by the expanded configuration; None: as the client gave it."""


def keys_of(host: Fields) -> Keys:
    """Configuration keys of all fields. Raises InvalidInput."""
    keys: Keys = {}
    for each in HOST_KEYS:
        keys |= each.keys(host)
    return keys


def values_of(config: Config) -> dict[str, Any]:
    """The fields by an expanded configuration, as changed through any door."""
    found = {each.field: each.value(config) for each in HOST_KEYS}
    return {field: value for field, value in found.items() if value is not None}


def _names(field: str, key: str, prefix: str = "") -> HostKey:
    def keys(host: Fields) -> Keys:
        names = [name.upper().removeprefix(prefix) if prefix else name for name in host.texts(field)]
        for name in names if prefix else ():
            _require_capability(field, name)
        return {key: ",".join(names)} if names else {}

    def value(config: Config) -> list[str] | None:
        names = [name.strip() for name in config.get(key, "").split(",") if name.strip()]
        return [name if name == "ALL" else f"{prefix}{name}" for name in names] or None

    return HostKey(field, keys, value)


def _require_capability(field: str, name: str) -> None:
    try:
        capabilities(name)
    except ValueError:
        raise InvalidInput(
            f'invalid {field}: unknown capability: "CAP_{name[:40]}"', field=f"HostConfig.{field}"
        ) from None


def _processes(host: Fields) -> Keys:
    most = host.whole("PidsLimit", 0, minimum=-(2**63), maximum=2**63 - 1)
    if not most:
        return {}
    return {"limits.processes": str(_MOST_PROCESSES if most < 0 else min(most, _MOST_PROCESSES))}


def _shared_memory(host: Fields) -> Keys:
    size = host.whole("ShmSize", 0, minimum=-(2**63), maximum=2**63 - 1)
    if size < 0:
        raise InvalidInput("SHM size can not be less than 0", field="HostConfig.ShmSize")
    return {"isola.shm.size": str(size or _SHM)}


def _terminal(host: Fields) -> Keys:
    """Rows and columns."""
    size = host.numbers("ConsoleSize", maximum=_MOST_CELLS)
    return {"isola.terminal.size": f"{size[1]}x{size[0]}"} if len(size) == 2 and all(size) else {}


def _sysctls(host: Fields) -> Keys:
    return {f"{_SYSCTL}{name}": value for name, value in host.mapping("Sysctls").items()}


def _ulimits(host: Fields) -> Keys:
    most, found = 2**63 - 1, {}
    for each in host.objects("Ulimits"):
        soft, hard = (each.whole(name, 0, minimum=-1, maximum=most) for name in ("Soft", "Hard"))
        found[f"{_ULIMIT}{each.text('Name')}"] = f"{_limit(soft)}:{_limit(hard)}"
    return found


def _limit(number: int) -> str:
    return "unlimited" if number < 0 else str(number)


def _ulimits_of(config: Config) -> list[dict[str, Any]] | None:
    found = []
    for key, value in config.items():
        if key.startswith(_ULIMIT):
            soft, _, hard = value.partition(":")
            found.append({"Name": key.removeprefix(_ULIMIT), "Hard": _number(hard or soft), "Soft": _number(soft)})
    return found or None


def _number(text: str) -> int:
    return -1 if text == "unlimited" else int(text)


def _flag(field: str, key: str) -> HostKey:
    def value(config: Config) -> bool | None:
        return config.get(key) == "true" if config.get(key) else None

    return HostKey(field, lambda host: {key: "true"} if host.boolean(field) else {}, value)


def _user_namespace(host: Fields) -> Keys:
    return {"security.privileged": "true"} if host.text("UsernsMode", "") == "host" else {}


def _user_mode(config: Config) -> str | None:
    return "host" if config.get("security.privileged") == "true" else None


def _paths(field: str, key: str) -> HostKey:
    """``null`` leaves the default paths, an empty list none."""

    def keys(host: Fields) -> Keys:
        return {key: ",".join(host.texts(field)) or _NO_PATHS} if host.has(field) else {}

    def value(config: Config) -> list[str] | None:
        text = config.get(key, "")
        return None if not text else [] if text == _NO_PATHS else text.split(",")

    return HostKey(field, keys, value)


def _priority(host: Fields) -> Keys:
    value = host.whole("OomScoreAdj", 0, minimum=-(2**31))
    if not -1000 <= value <= 1000:
        raise InvalidInput(
            f"Invalid value {value}, range for oom score adj is [-1000, 1000]", field="HostConfig.OomScoreAdj"
        )
    return {"isola.oom.score_adj": str(value)} if value else {}


def _sysctls_of(config: Config) -> Mapping[str, str] | None:
    found = {key.removeprefix(_SYSCTL): value for key, value in config.items() if key.startswith(_SYSCTL)}
    return found or None


def _whole(key: str) -> Callable[[Config], int | None]:
    return lambda config: int(config[key]) if config.get(key, "").lstrip("-").isdecimal() else None


def _size(key: str) -> Callable[[Config], int | None]:
    return lambda config: parse_size(config[key]) if config.get(key) else None


def _text(field: str, key: str) -> HostKey:
    def keys(host: Fields) -> Keys:
        text = host.text(field, "")
        return {key: text} if text else {}

    return HostKey(field, keys, lambda config: config.get(key) or None)


def _nothing(host: Fields) -> Keys:
    return {}


HOST_KEYS: tuple[HostKey, ...] = (
    HostKey("Memory", memory_keys, lambda config: memory(config) or 0),
    HostKey("MemorySwap", _nothing, memory_and_swap),
    HostKey(*number("MemoryReservation", "isola.limits.memory.reservation")),
    HostKey(*number("MemorySwappiness", "isola.limits.memory.swappiness", absent=-1)),
    HostKey("OomKillDisable", oom_kill_keys, oom_kill_disabled),
    HostKey("CpuShares", cpu_share_keys, _whole("isola.limits.cpu.shares")),
    HostKey(*number("BlkioWeight", "isola.limits.disk.weight")),
    *(HostKey(field, *disk_rates(field, key)) for field, key in DISK_RATES.items()),
    HostKey("PidsLimit", _processes, _whole("limits.processes")),
    HostKey("CpusetCpus", cpu_set_keys, cpu_set),
    _text("CpusetMems", "isola.limits.memory.nodes"),
    HostKey("NanoCpus", cpu_time_keys, nano_cpus),
    HostKey("CpuQuota", _nothing, cpu_quota),
    HostKey("CpuPeriod", _nothing, cpu_period),
    _names("CapAdd", "isola.capabilities.add", "CAP_"),
    _names("CapDrop", "isola.capabilities.drop", "CAP_"),
    _names("GroupAdd", "isola.groups"),
    _names("DeviceCgroupRules", "isola.devices.allow"),
    _names("Dns", "isola.dns.servers"),
    _names("DnsSearch", "isola.dns.search"),
    _names("DnsOptions", "isola.dns.options"),
    HostKey("ExtraHosts", hosts_keys, extra_hosts),
    HostKey("RestartPolicy", restart_keys, restart_policy),
    HostKey("LogConfig", log_keys, lambda config: None),
    _flag("Init", "isola.init"),
    _flag("Privileged", "isola.privileged"),
    HostKey("UsernsMode", _user_namespace, _user_mode),
    _paths("MaskedPaths", "isola.paths.masked"),
    _paths("ReadonlyPaths", "isola.paths.readonly"),
    HostKey("OomScoreAdj", _priority, _whole("isola.oom.score_adj")),
    HostKey("ConsoleSize", _terminal, lambda config: None),
    HostKey("ShmSize", _shared_memory, _size("isola.shm.size")),
    HostKey("Sysctls", _sysctls, _sysctls_of),
    HostKey("Ulimits", _ulimits, _ulimits_of),
)
