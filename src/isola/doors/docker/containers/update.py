"""Changes of limits and of the restart policy."""

from __future__ import annotations

from collections.abc import Callable

from isola.doors.docker.containers.host_keys import HOST_KEYS
from isola.doors.docker.containers.refused import refuse
from isola.doors.docker.containers.resource_keys import cpu_time_keys
from isola.doors.http.reading import Fields
from isola.model.instance import Instance, InstanceUpdate

_CHANGEABLE = (
    "Memory", "MemoryReservation", "PidsLimit", "CpusetCpus", "CpusetMems", "CpuShares", "BlkioWeight", "RestartPolicy",
)  # fmt: skip


def changed(fields: Fields) -> Callable[[Instance], InstanceUpdate]:
    """Decides the new configuration: what the request names replaces what there is. Raises InvalidInput."""
    refuse(fields)
    keys = cpu_time_keys(fields)
    for each in HOST_KEYS:
        if each.field in _CHANGEABLE:
            keys |= each.keys(fields)

    def decide(instance: Instance) -> InstanceUpdate:
        return InstanceUpdate(
            config=dict(instance.config) | keys,
            devices=instance.devices,
            profiles=instance.profiles,
            description=instance.description,
            ephemeral=instance.ephemeral,
            architecture=instance.architecture,
        )

    return decide
