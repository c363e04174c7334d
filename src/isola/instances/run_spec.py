"""From an instance's configuration to the specification of its run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from isola.errors import InvalidInput, Unsupported
from isola.instances.configuration import environment, expanded
from isola.instances.context import Context
from isola.instances.expand import root_name
from isola.instances.limits import terminals, tmpfs_size
from isola.instances.linking import link_variables
from isola.instances.log_settings import log_of
from isola.instances.machine_settings import CSM, SECURE_BOOT, check_image
from isola.instances.name_files import host_names, name_files, shown
from isola.instances.namespaces import FULLY, NETWORK, joined, of_host, require_application, running_peer
from isola.instances.placement import limits
from isola.instances.program import configured
from isola.instances.run_values import HOST, NONE, network_mode
from isola.instances.seeds import seed_of
from isola.instances.settings import HOSTNAME, SETTINGS
from isola.model.build import Furnished
from isola.model.confinement import UNCONFINED, Confinement
from isola.model.instance import Config, Devices, Instance, Start
from isola.model.names import hostname
from isola.model.signals import signal_number
from isola.runtimes import Capability, DeviceNode, Firmware, Mount, Root, RootKind, RunSpec, Shareable
from isola.runtimes.lxcfs import answering
from isola.settings import boolean

INIT = "/dev/init"
"""Where the small init is mounted: in a tmpfs, so that it leaves no file in the root."""
_INITS = ("tini-static", "catatonit", "docker-init")


async def spec_of(context: Context, instance: Instance, config: Config, devices: Devices, root: Path) -> RunSpec:
    """All but its network. Raises InvalidInput, Unsupported (a part that this host lacks)."""
    runtime, begins = context.working_runtime(instance), configured(instance.start, config)
    command, mounts = begins.command, tuple[Mount, ...]()
    own_kernel = not runtime.capabilities.shares_kernel
    if _true(config, "isola.init") and not (begins.system or own_kernel):  # there the agent is its init
        command, mounts = (INIT, "--", *command), (_init(context),)
    if begins.system:
        require_application(config)
    called, files = await _names_of(context, instance, config, begins)
    files, late = shown(files, devices)
    bounds = limits(context, config, instance, fresh=True)
    return RunSpec(
        id=instance.id,
        hostname=called,
        root=Root(root, runtime.capabilities.root, _true(devices[root_name(devices)], "readonly")),
        idmap=instance.idmap,
        command=command,
        environment={
            **link_variables(context, instance, config),
            **environment(config, begins.environment),
            **context.furnished.get(instance.ref, Furnished()).environment,
        },
        cwd=begins.cwd,
        user=begins.user,
        groups=_names(config, "isola.groups"),
        umask=_number(config, "isola.umask"),
        system=begins.system,
        stop_signal=signal_number(begins.stop_signal),
        limits=bounds,
        tmpfs=tmpfs_size(config, bounds.memory or context.host.system.memory_total, system=begins.system),
        shared_memory=_number(config, "isola.shm.size") or 0,
        terminals=terminals(config),
        terminal=begins.terminal or begins.system,
        console=_pair(SETTINGS.value(config, "isola.terminal.size")),
        stdin=begins.stdin,
        stdin_once=begins.stdin_once,
        log=log_of(config, system=begins.system),
        lxcfs=None if own_kernel else await answering(context.host, context.lxcfs),
        mounts=mounts,
        seed=seed_of(instance.id, called, config) if runtime.capabilities.root is RootKind.DISKS else {},
        files=files,
        late_files=late,
        devices=await _devices(context, config),
        shares=joined(context, instance, config),
        host_namespaces=of_host(config),
        sysctls=_sysctls(config),
        ulimits={name: _pair(value) for name, value in SETTINGS.values(config, "limits.kernel.*").items()},
        confinement=confinement(config),
        kernel=begins.kernel,
        oom_score_adj=_number(config, "isola.oom.score_adj"),
        firmware=_firmware(instance, config, devices) if runtime.capabilities.has(Capability.FIRMWARE) else None,
        warm=_true(config, "isola.microvm.warm"),
        host_stack=config.get("isola.sandbox.network") == HOST,
    )


def confinement(config: Config) -> Confinement:
    """Pure."""
    seccomp, calls = config.get("isola.seccomp", ""), _names(config, "security.syscalls.allow")
    bounded = _true(config, "isola.no_new_privileges")
    if _true(config, FULLY):  # a filter of its own counts all the same
        given = seccomp if seccomp not in ("", "default") else UNCONFINED
        return Confinement(("ALL",), (), bounded, given, (), (), ("a *:* rwm",))
    if calls and seccomp not in ("", "default"):
        raise InvalidInput(
            "There are two filters of system calls", field="config.isola.seccomp", remedy="unset isola.seccomp"
        )
    return Confinement(
        add=_names(config, "isola.capabilities.add"),
        drop=_names(config, "isola.capabilities.drop"),
        no_new_privileges=bounded,
        seccomp="" if seccomp == "default" else seccomp,
        system_calls=calls,
        writable=_names(config, "isola.paths.writable") if config.get("isola.paths.writable") else None,
        device_rules=_names(config, "isola.devices.allow"),
        masked=_names(config, "isola.paths.masked") if config.get("isola.paths.masked") else None,
        read_only=_names(config, "isola.paths.readonly") if config.get("isola.paths.readonly") else None,
    )


async def _names_of(
    context: Context, instance: Instance, config: Config, begins: Start
) -> tuple[str, Mapping[str, str]]:
    """Its host name and the files about names: those of the network in which it runs."""
    called = config.get(HOSTNAME) or hostname(instance.called)
    if begins.system:
        return called, {}
    if network_mode(config.get(NETWORK) or "private")[0] == HOST:
        return await host_names(context, config, config.get(HOSTNAME, ""))
    if (peer := running_peer(context, instance.project, config)) is not None:
        config, _ = expanded(context, peer)
        return await _names_of(context, peer, config, replace(peer.start, system=False))
    if Shareable.UTS in of_host(config):
        called = context.host.system.kernel().hostname
    return called, await name_files(context, instance, config, called)


async def _devices(context: Context, config: Config) -> tuple[DeviceNode, ...]:
    if not (_true(config, "isola.devices.host") or _true(config, FULLY)):
        return ()
    return tuple(
        DeviceNode(
            str(node.path), node.number.rule[0], node.number.major, node.number.minor, node.mode, node.uid, node.gid
        )
        for node in await context.host.nodes.everything()
    )


def _firmware(instance: Instance, config: Config, devices: Devices) -> Firmware:
    check_image(config, instance.image_properties)
    return Firmware(
        secure_boot=bool(SETTINGS.value(config, SECURE_BOOT)),
        bios=bool(SETTINGS.value(config, CSM)),
        tpm=any(device.get("type") == "tpm" for device in devices.values()),
    )


def _sysctls(config: Config) -> dict[str, str]:
    """Raises InvalidInput for those of namespaces that are not its own."""
    found = {name.replace("/", "."): str(value) for name, value in SETTINGS.values(config, "linux.sysctl.*").items()}
    private = network_mode(config.get(NETWORK) or "private")[0] in ("private", NONE)
    own = {True: private, False: Shareable.IPC not in of_host(config)}
    for name in found:
        if not own[name.startswith("net.")]:
            raise InvalidInput(
                f"The instance has no namespace of its own for {name}",
                field=f"config.linux.sysctl.{name}",
                remedy="unset it, or unset isola.namespaces.*",
            )
    return found


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
