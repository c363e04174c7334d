"""Instances and their state."""

from __future__ import annotations

from collections.abc import Mapping

from isola.doors.rest.programs import program_json
from isola.doors.rest.shapes.times import moment
from isola.instances.metadata import Metadata
from isola.instances.volatile import START_TIME
from isola.model.health import Health
from isola.model.instance import Config, Devices, Instance, InstanceState, InterfaceState, Status
from isola.model.isolation import ISOLATIONS
from isola.model.last_run import LastRun


def instance_json(
    instance: Instance, status: Status, config: Config, expanded: tuple[Config, Devices], *, stateful: bool
) -> dict[str, object]:
    """An instance as the API documents it, with our ``isolation`` and ``runtime``."""
    return {
        "name": instance.name,
        "description": instance.description,
        "status": status.value,
        "status_code": status.code,
        "created_at": moment(instance.created_at),
        "last_used_at": moment(instance.last_used_at),
        "location": "none",
        "type": instance.type,
        "project": instance.project,
        "architecture": instance.architecture,
        "ephemeral": instance.ephemeral,
        "stateful": stateful,
        "profiles": list(instance.profiles),
        "config": dict(config),
        "devices": plain(instance.devices),
        "expanded_config": dict(expanded[0]),
        "expanded_devices": plain(expanded[1]),
        "isolation": instance.isolation,
        "runtime": instance.runtime,
        "wall": wall_json(instance),
        "program": program_json(instance.start),
        "last_run": last_run_json(instance.last_run),
    }


def wall_json(instance: Instance) -> dict[str, object]:
    """What its isolation is made of, what it protects, and how long the last start took because of it."""
    known, took = ISOLATIONS.get(instance.isolation), instance.volatile.get(START_TIME, "")
    return {
        "separates": known.separates if known else "",
        "protects": known.protects if known else "",
        "start_ms": int(took) if took.isdigit() else None,
    }


def writable(instance: Instance, config: Config) -> dict[str, object]:
    """The fields that PUT replaces; the entity tag is computed of them."""
    return {
        "architecture": instance.architecture,
        "config": dict(config),
        "devices": plain(instance.devices),
        "ephemeral": instance.ephemeral,
        "profiles": list(instance.profiles),
        "description": instance.description,
    }


def state_json(state: InstanceState) -> dict[str, object]:
    """The observed state of an instance."""
    usage = state.usage
    return {
        "status": state.status.value,
        "status_code": state.status.code,
        "disk": {device: {"usage": used, "total": 0} for device, used in state.disk.items()},
        "memory": {
            "usage": usage.memory,
            "usage_peak": usage.memory_peak,
            "total": state.memory_total,
            "swap_usage": usage.swap,
            "swap_usage_peak": usage.swap_peak,
        },
        "network": {link.name: interface_json(link) for link in state.network} if state.pid else None,
        "pid": state.pid,
        "processes": usage.processes if state.pid else 0,
        "cpu": {"usage": usage.cpu_ns, "allocated_time": state.cpu_allocated},
        "started_at": moment(state.started_at),
        "health": health_json(state.health),
    }


def last_run_json(run: LastRun | None) -> dict[str, object] | None:
    """How its last run ended; None if none has ended."""
    if run is None:
        return None
    return {
        "exit_status": run.exit_status,
        "oom_killed": run.oom_killed,
        "error": run.error,
        "started_at": None if run.started_at is None else moment(run.started_at),
        "finished_at": None if run.finished_at is None else moment(run.finished_at),
        "restarts": run.restarts,
    }


def health_json(health: Health | None) -> dict[str, object] | None:
    """What its health check has found; None without a check."""
    if health is None:
        return None
    log = [
        {
            "start": moment(each.start),
            "end": moment(each.end),
            "exit_status": each.exit_status,
            "output": each.output,
        }
        for each in health.log
    ]
    return {"status": health.status.value, "failing": health.failing, "log": log}


def interface_json(link: InterfaceState) -> dict[str, object]:
    """A network interface as seen inside the instance."""
    return {
        "addresses": [
            {"family": each.family, "address": each.address, "netmask": each.netmask, "scope": each.scope}
            for each in link.addresses
        ],
        "counters": {
            "bytes_received": link.bytes_received,
            "bytes_sent": link.bytes_sent,
            "packets_received": link.packets_received,
            "packets_sent": link.packets_sent,
            "errors_received": link.errors_received,
            "errors_sent": link.errors_sent,
            "packets_dropped_outbound": link.packets_dropped_outbound,
            "packets_dropped_inbound": link.packets_dropped_inbound,
        },
        "hwaddr": link.hwaddr,
        "host_name": link.host_name,
        "mtu": link.mtu,
        "state": link.state,
        "type": link.type,
    }


def plain(devices: Devices) -> dict[str, dict[str, str]]:
    """Devices as plain dictionaries."""
    return {name: dict(device) for name, device in devices.items()}


def image_metadata_json(metadata: Metadata) -> Mapping[str, object]:
    """The metadata of its image, as far as the instance keeps it, or as changed."""
    facts = metadata.facts
    return {
        "architecture": facts.architecture,
        "creation_date": facts.creation_date,
        "expiry_date": facts.expiry_date,
        "properties": dict(facts.properties),
        "templates": {
            path: {
                "when": list(each.when),
                "create_only": each.create_only,
                "template": each.name,
                "properties": dict(each.properties),
            }
            for path, each in metadata.paths.items()
        },
    }
