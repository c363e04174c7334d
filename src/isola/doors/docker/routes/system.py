"""The server: versions and a summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from isola import __version__
from isola.doors import Services
from isola.doors.docker.answers import answer
from isola.doors.docker.architectures import platform_of
from isola.doors.docker.containers.view import view
from isola.doors.docker.identity import containers_of
from isola.doors.docker.request import Request
from isola.doors.docker.routing import Permission
from isola.doors.docker.times import rfc3339
from isola.doors.docker.versions import NEWEST, OLDEST, Version, text
from isola.model.image_reference import HUB_ADDRESS
from isola.model.reference import Kind

_NO_SWARM = {
    "NodeID": "",
    "NodeAddr": "",
    "LocalNodeState": "inactive",
    "ControlAvailable": False,
    "Error": "",
    "RemoteManagers": None,
}


_ABILITIES: Mapping[str, Any] = {
    "Plugins": {
        "Volume": ["local"],
        "Network": ["bridge", "host", "macvlan", "null"],
        "Authorization": None,
        "Log": ["json-file", "local", "none"],
    },
    **dict.fromkeys(
        (
            "MemoryLimit", "SwapLimit", "CpuCfsPeriod", "CpuCfsQuota", "CPUShares", "CPUSet", "PidsLimit",
            "IPv4Forwarding", "LiveRestoreEnabled", "ExperimentalBuild",
        ),
        True,
    ),
    **dict.fromkeys(("Debug", "OomKillDisable"), False),
    **dict.fromkeys(("HttpProxy", "HttpsProxy", "NoProxy", "Isolation"), ""),
    "NGoroutines": 0,
    "NEventsListener": 0,
    "LoggingDriver": "json-file",
    "CgroupDriver": "cgroupfs",
    "CgroupVersion": "2",
    "IndexServerAddress": HUB_ADDRESS,
    "Labels": [],
    "ServerVersion": __version__,
    "InitBinary": "tini",
    "SecurityOptions": ["name=seccomp,profile=builtin", "name=userns"],
    "CDISpecDirs": [],
    "GenericResources": None,
    "Warnings": None,
}  # fmt: skip
"""What is the same on every host."""


_COMMITS = ("ContainerdCommit", "RuncCommit", "InitCommit")
_REGISTRIES: Mapping[str, Any] = {"InsecureRegistryCIDRs": [], "IndexConfigs": {}, "Mirrors": []}
_FIREWALL: Version = (1, 49)
_WITHOUT_BRIDGE_FILTERS: Version = (1, 50)


def _by_version(version: Version) -> dict[str, Any]:
    """What versions of the API say, or do not say any more."""
    found: dict[str, Any] = {}
    if version < _WITHOUT_BRIDGE_FILTERS:
        found |= dict.fromkeys(("BridgeNfIptables", "BridgeNfIp6tables"), True)
    if version >= _FIREWALL:
        commits, registries = {"ID": ""}, _REGISTRIES
        found["FirewallBackend"] = {"Driver": "nftables"}
    else:
        commits = {"ID": "", "Expected": ""}
        fields = ("AllowNondistributableArtifactsCIDRs", "AllowNondistributableArtifactsHostnames")
        registries = {**_REGISTRIES, **dict.fromkeys(fields)}
    return {**found, **{name: dict(commits) for name in _COMMITS}, "RegistryConfig": registries}


async def version(request: Request) -> web.StreamResponse:
    """Of the server, its parts and the API."""
    kernel = request.services.host.system.kernel()
    architecture = platform_of(kernel.architecture)
    details = {
        "ApiVersion": text(NEWEST),
        "Arch": architecture,
        "Experimental": "true",
        "KernelVersion": kernel.release,
        "MinAPIVersion": text(OLDEST),
        "Os": "linux",
    }
    engines = [
        {"Name": name, "Version": probe.version, "Details": {}}
        for name, probe in sorted(request.services.runtimes.probes.items())
        if probe.available
    ]
    return answer(
        {
            "Platform": {"Name": "Isola"},
            "Components": [{"Name": "Engine", "Version": __version__, "Details": details}, *engines],
            "Version": __version__,
            "ApiVersion": text(NEWEST),
            "MinAPIVersion": text(OLDEST),
            "GitCommit": "",
            "GoVersion": "",
            "Os": "linux",
            "Arch": architecture,
            "KernelVersion": kernel.release,
            "Experimental": True,
        }
    )


async def info(request: Request) -> web.StreamResponse:
    """The host, the drivers, and how many containers and images there are."""
    services = request.services
    states = [view(request, instance).state for instance in containers_of(request)]
    home = request.home(Kind.IMAGE)
    running, paused = states.count("running"), states.count("paused")
    return answer(
        {
            "ID": services.host.system.machine_id(),
            "Containers": len(states),
            "ContainersRunning": running,
            "ContainersPaused": paused,
            "ContainersStopped": len(states) - running - paused,
            "Images": sum(image.project == home for image in services.images),
            **_drivers(services),
            **_host(services),
            **_ABILITIES,
            **_by_version(request.version),
            "DockerRootDir": str(services.directory),
            "Swarm": _NO_SWARM,
        }
    )


def _drivers(services: Services) -> dict[str, Any]:
    runtimes = {name: {"path": name} for name, probe in services.runtimes.probes.items() if probe.available}
    pools = sorted({pool.driver for pool in services.pools})
    return {
        "Driver": pools[0] if pools else "",
        "DriverStatus": [[f"Pool {pool.name}", pool.driver] for pool in services.pools],
        "Runtimes": runtimes,
        "DefaultRuntime": next(iter(runtimes), ""),
    }


def _host(services: Services) -> dict[str, Any]:
    system = services.host.system
    kernel, release = system.kernel(), system.os_release()
    return {
        "NFd": system.open_files()[0],
        "SystemTime": rfc3339(services.host.clock.now()),
        "KernelVersion": kernel.release,
        "OperatingSystem": release.get("PRETTY_NAME", "Linux"),
        "OSVersion": release.get("VERSION_ID", ""),
        "OSType": "linux",
        "Architecture": kernel.architecture,
        "NCPU": len(system.cpus()),
        "MemTotal": system.memory_total,
        "Name": kernel.hostname,
    }


ROUTES = (
    ("GET", "/version", version, Permission.TRUSTED),
    ("GET", "/info", info, Permission.VIEW),
)
