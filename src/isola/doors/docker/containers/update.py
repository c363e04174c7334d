"""Changes of limits and of the restart policy."""

from __future__ import annotations

from collections.abc import Callable

from isola.doors.docker.containers.host_keys import HOST_KEYS
from isola.doors.docker.containers.refused import refuse
from isola.doors.docker.containers.resource_checks import check_resources, present_on
from isola.doors.docker.containers.resource_keys import (
    cpu_period,
    cpu_quota,
    cpu_time_keys,
    memory,
    memory_and_swap,
    nano_cpus,
    swap_keys,
)
from isola.doors.docker.identity import container_id
from isola.doors.docker.request import Request
from isola.doors.http.reading import Fields
from isola.errors import Conflict, InvalidInput
from isola.model.instance import Config, Instance, InstanceUpdate

_CHANGEABLE = (
    "MemoryReservation", "PidsLimit", "CpusetCpus", "CpusetMems", "CpuShares", "BlkioWeight", "RestartPolicy",
)  # fmt: skip
_MOST = 2**63 - 1
_TOO_MUCH = "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"


def changed(request: Request, fields: Fields) -> Callable[[Instance], InstanceUpdate]:
    """Decides the new configuration: what the request names replaces what there is. Raises InvalidInput, Conflict."""
    refuse(fields, request.version)
    check_resources(fields, present_on(request))
    keys: dict[str, str] = {}
    for each in HOST_KEYS:
        if each.field in _CHANGEABLE:
            keys |= each.keys(fields)

    def decide(instance: Instance) -> InstanceUpdate:
        config = request.services.instances.expanded(instance)[0]
        try:
            _refuse_conflicts(fields, config)
            more = _memory_keys(fields, config) | cpu_time_keys(fields, config)
        except Conflict as error:
            raise Conflict(f"Cannot update container {container_id(instance.id)}: {error.message}") from None
        wanted = dict(instance.config) | keys | more
        return InstanceUpdate(
            config={key: value for key, value in wanted.items() if value},
            devices=instance.devices,
            profiles=instance.profiles,
            description=instance.description,
            ephemeral=instance.ephemeral,
            architecture=instance.architecture,
        )

    return decide


def _refuse_conflicts(fields: Fields, config: Config) -> None:
    """Raises Conflict for CPU time in the other way than it was set."""
    share, quota, period = (fields.whole(name, 0, minimum=-1, maximum=_MOST) for name in _TIMES)
    for wanted, there, what, other in (
        (share, cpu_period(config), "Nano CPUs", "CPU Period"),
        (share, cpu_quota(config), "Nano CPUs", "CPU Quota"),
        (period, nano_cpus(config), "CPU Period", "NanoCPUs"),
        (quota, nano_cpus(config), "CPU Quota", "NanoCPUs"),
    ):
        if wanted > 0 and there:
            raise Conflict(f"Conflicting options: {what} cannot be updated as {other} has already been set")


_TIMES = ("NanoCpus", "CpuQuota", "CpuPeriod")


def _memory_keys(fields: Fields, config: Config) -> dict[str, str]:
    """Memory and swap together stay as they are, unless the request names them. Raises Conflict, InvalidInput."""
    size = fields.whole("Memory", 0, minimum=-1, maximum=_MOST)
    total = fields.whole("MemorySwap", 0, minimum=-1, maximum=_MOST)
    if size < 0:
        return {"limits.memory": "", "limits.memory.swap": ""}
    limit = size or memory(config) or 0
    if not limit:
        if total > 0:
            raise InvalidInput(
                "You should always set the Memory limit when using Memoryswap limit, see usage",
                field="HostConfig.Memory",
            )
        return {}
    if 0 < total < limit:
        raise InvalidInput(
            "Minimum memoryswap limit should be larger than memory limit, see usage", field="HostConfig.MemorySwap"
        )
    before = memory_and_swap(config) if "limits.memory.swap" in config else 0
    if size and not total and 0 < before < size:
        raise Conflict(_TOO_MUCH)
    found = {"limits.memory": str(size)} if size else {}
    return found | (swap_keys(total or before, limit) if size or total else {})
