"""From an instance's configuration to the specification of its run."""

from __future__ import annotations

from pathlib import Path

from isola.errors import Unsupported
from isola.instances.configuration import environment
from isola.instances.context import Context
from isola.instances.expand import root_name
from isola.instances.limits import terminals, tmpfs_size
from isola.instances.log_settings import log_of
from isola.instances.name_files import name_files
from isola.instances.placement import limits
from isola.instances.program import configured
from isola.instances.settings import HOSTNAME, SETTINGS
from isola.model.confinement import Confinement
from isola.model.instance import Config, Devices, Instance
from isola.model.names import hostname
from isola.model.signals import signal_number
from isola.runtimes import Mount, Root, RunSpec
from isola.runtimes.lxcfs import answering
from isola.settings import boolean

INIT = "/dev/init"
"""Where the small init is mounted: in a tmpfs, so that it leaves no file in the root."""
_INITS = ("tini-static", "catatonit", "docker-init")


async def spec_of(context: Context, instance: Instance, config: Config, devices: Devices, root: Path) -> RunSpec:
    """All but its network. Raises InvalidInput, Unsupported (a part that this host lacks)."""
    runtime, begins = context.working_runtime(instance), configured(instance.start, config)
    command, mounts = begins.command, tuple[Mount, ...]()
    if _true(config, "isola.init") and not begins.system:
        command, mounts = (INIT, "--", *command), (_init(context),)
    called = config.get(HOSTNAME) or hostname(instance.name)
    return RunSpec(
        id=instance.id,
        hostname=called,
        root=Root(root, runtime.capabilities.root, _true(devices[root_name(devices)], "readonly")),
        idmap=context.ids(instance),
        command=command,
        environment=dict(begins.environment) | environment(config),
        cwd=begins.cwd,
        user=begins.user,
        groups=_names(config, "isola.groups"),
        umask=_number(config, "isola.umask"),
        system=begins.system,
        stop_signal=signal_number(begins.stop_signal),
        limits=limits(context, config),
        tmpfs=tmpfs_size(config, context.host.system.memory()["MemTotal"], system=begins.system),
        shared_memory=_number(config, "isola.shm.size") or 0,
        terminals=terminals(config),
        terminal=begins.terminal or begins.system,
        stdin=begins.stdin,
        log=log_of(config, system=begins.system),
        lxcfs=await answering(context.host, context.lxcfs),
        mounts=mounts,
        files={} if begins.system else await name_files(context, instance, config, called),
        sysctls={name: str(value) for name, value in SETTINGS.values(config, "linux.sysctl.*").items()},
        ulimits={name: _pair(value) for name, value in SETTINGS.values(config, "limits.kernel.*").items()},
        confinement=confinement(config),
        oom_score_adj=_number(config, "isola.oom.score_adj"),
    )


def confinement(config: Config) -> Confinement:
    """Pure."""
    seccomp = config.get("isola.seccomp", "")
    return Confinement(
        add=_names(config, "isola.capabilities.add"),
        drop=_names(config, "isola.capabilities.drop"),
        no_new_privileges=_true(config, "isola.no_new_privileges"),
        seccomp="" if seccomp == "default" else seccomp,
        masked=_names(config, "isola.paths.masked") if config.get("isola.paths.masked") else None,
        read_only=_names(config, "isola.paths.readonly") if config.get("isola.paths.readonly") else None,
    )


def _init(context: Context) -> Mount:
    for name in _INITS:
        if (found := context.host.system.find_program(name)) is not None:
            return Mount(INIT, str(found.resolve()), read_only=True)
    raise Unsupported("No small init is installed", field="config.isola.init", remedy="install the package tini")


def _names(config: Config, key: str) -> tuple[str, ...]:
    found = SETTINGS.value(config, key)
    return tuple(map(str, found)) if isinstance(found, tuple) else ()


def _number(config: Config, key: str) -> int | None:
    found = SETTINGS.value(config, key)
    return found if isinstance(found, int) else None


def _pair(value: object) -> tuple[int, int]:
    assert isinstance(value, tuple)
    soft, hard = value
    return int(soft), int(hard)


def _true(config: Config, key: str) -> bool:
    return boolean(config.get(key) or "false")
