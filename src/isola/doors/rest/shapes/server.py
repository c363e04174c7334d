"""The server and its environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from isola import __version__
from isola.doors import Services
from isola.doors.rest.extensions import EXTENSIONS
from isola.model.caller import Caller
from isola.model.isolation import ISOLATIONS, type_of
from isola.model.probe import Probe


def server_json(services: Services, caller: Caller, project: str, warnings: Sequence[str] = ()) -> dict[str, object]:
    """``GET /1.0`` for a trusted caller; without the server's configuration for a restricted one."""
    return {
        **guest_json(),
        "config": dict(services.server.shown) if caller.admin else {},
        "auth": "trusted",
        "auth_user_name": caller.name,
        "auth_user_method": caller.credential.value,
        "environment": environment_json(services, project, warnings),
    }


def guest_json() -> dict[str, object]:
    """``GET /1.0`` for an untrusted caller."""
    return {
        "api_extensions": list(EXTENSIONS),
        "api_status": "stable",
        "api_version": "1.0",
        "auth": "untrusted",
        "auth_methods": ["tls"],
        "public": False,
    }


def environment_json(services: Services, project: str, warnings: Sequence[str] = ()) -> dict[str, object]:
    """The host, the drivers with the results of their probes, and resources that the daemon is running out of."""
    kernel = services.host.system.kernel()
    release = services.host.system.os_release()
    runtimes = {name: probe for name, probe in services.runtimes.probes.items() if probe.available}
    pair = services.identity.pair
    offered = services.runtimes.offered()
    used = sorted({pool.driver for pool in services.pools})
    return {
        "addresses": list(services.identity.addresses),
        "architectures": _architectures(kernel.architecture),
        "certificate": pair.certificate if pair is not None else "",
        "certificate_fingerprint": services.identity.fingerprint,
        "driver": " | ".join(runtimes),
        "driver_version": " | ".join(probe.version for probe in runtimes.values()),
        "instance_types": list(dict.fromkeys(type_of(name) for name in ISOLATIONS if name in offered)),
        "firewall": "nftables",
        "kernel": kernel.name,
        "kernel_architecture": kernel.architecture,
        "kernel_features": {},
        "kernel_version": kernel.release,
        "lxc_features": {},
        "os_name": release.get("NAME", ""),
        "os_version": release.get("VERSION_ID", ""),
        "project": project,
        "server": "isola",
        "server_clustered": False,
        "server_event_mode": "full-mesh",
        "server_name": kernel.hostname,
        "server_pid": services.host.system.pid(),
        "server_version": __version__,
        "storage": " | ".join(used),
        "storage_version": " | ".join(_version(services.pools.probes, driver) for driver in used),
        "storage_supported_drivers": [
            {"Name": name, "Version": probe.version, "Remote": False}
            for name, probe in sorted(services.pools.probes.items())
            if probe.available
        ],
        "directory": str(services.directory),
        "image_offers": dict(services.images.offers()),
        "warnings": list(warnings),
        "runtimes": _runtimes(services),
        "isolations": [
            {**probe_json(isolation.name, probe), "runtime": runtime, "separates": isolation.separates}
            for isolation, runtime, probe in services.runtimes.isolations()
        ],
        "drivers": {
            "storage": _probes(services.pools.probes),
            "network": _probes(services.networks.probes),
            "images": _probes(services.images.probes),
        },
    }


def probe_json(name: str, probe: Probe) -> dict[str, object]:
    """A driver: whether it works on this host, and if not, why and what to do."""
    return {
        "name": name,
        "available": probe.available,
        "version": probe.version,
        "reason": probe.reason,
        "remedy": probe.remedy,
        "emulated": probe.emulated,
        "warnings": list(probe.warnings),
    }


def _runtimes(services: Services) -> list[dict[str, object]]:
    isolations = {name: sorted(runtime.capabilities.isolations) for name, runtime in services.runtimes.loaded()}
    return [
        {**probe_json(name, probe), "isolations": isolations.get(name, [])}
        for name, probe in sorted(services.runtimes.probes.items())
    ]


def _probes(probes: Mapping[str, Probe]) -> list[dict[str, object]]:
    return [probe_json(name, probe) for name, probe in sorted(probes.items())]


def _version(probes: Mapping[str, Probe], driver: str) -> str:
    probe = probes.get(driver)
    return (probe.version if probe else "") or "1"


def _architectures(machine: str) -> Iterable[str]:
    return [machine, "i686"] if machine == "x86_64" else [machine]
