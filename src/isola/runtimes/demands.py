"""What a specification of a run asks of its runtime that not all runtimes have. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from isola.model.confinement import UNCONFINED
from isola.model.identity import PRIVILEGED
from isola.model.network import HostNetwork
from isola.runtimes.capabilities import Capability, RuntimeCapabilities
from isola.runtimes.spec import RunSpec


def require_obeyed(capabilities: RuntimeCapabilities, spec: RunSpec) -> None:
    """Raises Unsupported for what the runtime lacks: nothing is left out in silence."""
    for capability in demands(spec):
        capabilities.require(capability)


def demands(spec: RunSpec) -> Iterator[Capability]:
    """The capabilities that it needs."""
    wanted = spec.confinement
    found = {
        Capability.PRIVILEGES: spec.idmap == PRIVILEGED
        or isinstance(spec.network, HostNetwork)
        or spec.host_namespaces,
        Capability.SHARED_NAMESPACES: spec.shares,
        Capability.DEVICES: spec.devices or wanted.device_rules,
        Capability.DISKS: spec.disks,
        Capability.MOUNTS: any(mount.kind == "bind" for mount in spec.mounts),
        Capability.SYSCTLS: spec.sysctls,
        Capability.ULIMITS: spec.ulimits,
        Capability.CONFINEMENT: wanted.add or wanted.drop,
        Capability.FILTERS: wanted.seccomp not in ("", UNCONFINED)
        or wanted.masked
        or wanted.read_only
        or wanted.no_new_privileges,
        Capability.SYSTEM_CALLS: wanted.system_calls or wanted.writable is not None,
        Capability.PORTS: (spec.limits.listens, spec.limits.connects) != (None, None),
        Capability.UMASK: spec.umask is not None,
    }
    yield from (capability for capability, need in found.items() if need)
