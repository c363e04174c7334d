"""The keys of a compose file, and what each takes. On long forms, after merging."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isola.compose.shapes import (
    Check,
    anything,
    boolean,
    duration,
    either,
    health_test,
    listed,
    mapped,
    matching,
    number,
    one_of,
    optional,
    permissions,
    record,
    size,
    text,
    unique,
    whole,
)

_TEXTS = listed(text)
_PAIRS = mapped(optional(text))
_HOSTS = mapped(listed(text))
_ULIMITS = mapped(record({"soft": whole, "hard": whole}, "soft", "hard"))
_PULL = matching(
    r"always|never|build|if_not_present|missing|refresh|daily|weekly|every_([0-9]{1,6}[wdhms])+",
    "always, never, missing, build, daily, weekly or every_12h",
)
_GRANT = record({"source": text, "target": text, "uid": text, "gid": text, "mode": permissions}, "source")
_HOOK = record({"command": either(str, text, _TEXTS), "user": text, "privileged": boolean, "working_dir": text,
                "environment": either(list, _TEXTS, _PAIRS)}, "command")  # fmt: skip

_DISK: Mapping[str, Check] = {
    "weight": whole,
    "weight_device": anything,
    **dict.fromkeys(
        ("device_read_bps", "device_read_iops", "device_write_bps", "device_write_iops"),
        listed(record({"path": text, "rate": size})),
    ),
}

BUILD: Mapping[str, Check] = {
    "context": text, "dockerfile": text, "dockerfile_inline": text, "args": _PAIRS, "target": text, "labels": _PAIRS,
    "cache_from": _TEXTS, "cache_to": _TEXTS, "no_cache": boolean, "pull": boolean, "network": text,
    "additional_contexts": mapped(text), "extra_hosts": _HOSTS, "platforms": _TEXTS, "privileged": boolean,
    "secrets": listed(_GRANT), "shm_size": size, "ssh": anything, "tags": _TEXTS, "ulimits": _ULIMITS,
    "isolation": text, "entitlements": _TEXTS, "provenance": anything, "sbom": anything,
}  # fmt: skip
HEALTH: Mapping[str, Check] = {
    "test": health_test, "interval": duration, "timeout": duration, "retries": whole, "start_period": duration,
    "start_interval": duration, "disable": boolean,
}  # fmt: skip
PORT: Mapping[str, Check] = {
    "target": whole, "published": text, "host_ip": text, "protocol": one_of("tcp", "udp", "sctp"),
    "mode": one_of("ingress", "host"), "name": text, "app_protocol": text,
}  # fmt: skip
MOUNT: Mapping[str, Check] = {
    "type": one_of("volume", "bind", "tmpfs", "image", "npipe", "cluster"),
    "source": text, "target": text, "read_only": boolean, "consistency": text,
    "bind": record({"propagation": text, "create_host_path": boolean, "selinux": text, "recursive": text}),
    "volume": record({"nocopy": boolean, "subpath": text, "labels": _PAIRS}),
    "tmpfs": record({"size": size, "mode": permissions}),
    "image": record({"subpath": text}),
}  # fmt: skip
ATTACHMENT: Mapping[str, Check] = {
    "aliases": _TEXTS, "ipv4_address": text, "ipv6_address": text, "link_local_ips": _TEXTS, "mac_address": text,
    "driver_opts": _PAIRS, "priority": whole, "gw_priority": whole, "interface_name": text,
}  # fmt: skip
_RESOURCES: Mapping[str, Check] = {
    "cpus": number, "memory": size, "pids": whole, "devices": anything, "generic_resources": anything,
}  # fmt: skip
DEPLOY: Mapping[str, Check] = {
    "mode": one_of("replicated", "global", "replicated-job", "global-job"), "replicas": whole, "labels": anything,
    "endpoint_mode": text, "placement": anything, "update_config": anything, "rollback_config": anything,
    "resources": record({"limits": record(_RESOURCES), "reservations": record(_RESOURCES)}),
    "restart_policy": record({"condition": one_of("none", "on-failure", "any"), "delay": duration,
                              "max_attempts": whole, "window": duration}),
}  # fmt: skip
DEPENDENCY: Mapping[str, Check] = {
    "condition": one_of("service_started", "service_healthy", "service_completed_successfully"),
    "restart": boolean, "required": boolean,
}  # fmt: skip
SERVICE: Mapping[str, Check] = {
    "image": text, "build": record(BUILD), "command": _TEXTS, "entrypoint": _TEXTS, "environment": _PAIRS,
    "env_file": listed(record({"path": text, "required": boolean, "format": text}, "path")),
    "container_name": text, "hostname": text, "domainname": text, "user": text, "working_dir": text, "tty": boolean,
    "stdin_open": boolean, "init": boolean, "privileged": boolean, "read_only": boolean, "restart": text,
    "labels": _PAIRS, "label_file": _TEXTS, "annotations": _PAIRS, "profiles": unique, "scale": whole,
    "depends_on": mapped(record(DEPENDENCY, "condition")),
    "networks": mapped(optional(record(ATTACHMENT))), "network_mode": text, "mac_address": text,
    "ports": listed(record(PORT, "target")), "expose": unique, "links": _TEXTS, "external_links": _TEXTS,
    "dns": unique, "dns_search": unique, "dns_opt": unique, "extra_hosts": _HOSTS,
    "volumes": listed(record(MOUNT, "type", "target")), "volumes_from": _TEXTS, "tmpfs": unique,
    "configs": listed(_GRANT), "secrets": listed(_GRANT),
    "devices": listed(record({"source": text, "target": text, "permissions": text}, "source")),
    "device_cgroup_rules": _TEXTS, "gpus": anything,
    "healthcheck": record(HEALTH), "deploy": record(DEPLOY), "develop": anything, "attach": boolean,
    "cap_add": unique, "cap_drop": unique, "security_opt": _TEXTS, "group_add": unique, "userns_mode": text,
    "ipc": text, "pid": text, "uts": text, "cgroup": one_of("host", "private"), "cgroup_parent": text,
    "sysctls": mapped(text), "ulimits": _ULIMITS, "shm_size": size, "stop_signal": text,
    "stop_grace_period": duration, "logging": record({"driver": text, "options": _PAIRS}),
    "mem_limit": size, "mem_reservation": size, "memswap_limit": size, "mem_swappiness": whole, "cpus": number,
    "cpu_shares": whole, "cpu_quota": whole, "cpu_period": whole, "cpuset": text, "cpu_count": whole,
    "cpu_percent": number, "cpu_rt_period": anything, "cpu_rt_runtime": anything, "pids_limit": whole,
    "oom_kill_disable": boolean, "oom_score_adj": whole, "blkio_config": record(_DISK), "storage_opt": _PAIRS,
    "platform": text, "pull_policy": _PULL, "runtime": text, "isolation": text, "credential_spec": anything,
    "post_start": listed(_HOOK), "pre_stop": listed(_HOOK), "use_api_socket": boolean,
    "provider": anything, "models": anything, "pull_refresh_after": text,
}  # fmt: skip
NETWORK: Mapping[str, Check] = {
    "name": text, "driver": text, "driver_opts": _PAIRS, "external": boolean, "internal": boolean,
    "attachable": boolean, "enable_ipv4": boolean, "enable_ipv6": boolean, "labels": _PAIRS,
    "ipam": record({"driver": text, "options": _PAIRS, "config": listed(record({
        "subnet": text, "ip_range": text, "gateway": text, "aux_addresses": mapped(text)}))}),
}  # fmt: skip
VOLUME: Mapping[str, Check] = {
    "name": text, "driver": text, "driver_opts": _PAIRS, "external": boolean, "labels": _PAIRS,
}  # fmt: skip
STORED: Mapping[str, Check] = {
    "name": text, "file": text, "environment": text, "content": text, "external": boolean, "labels": _PAIRS,
    "driver": text, "driver_opts": _PAIRS, "template_driver": text,
}  # fmt: skip
_TOP: Mapping[str, Check] = {
    "name": text, "version": anything, "include": anything, "models": anything,
    "services": mapped(record(SERVICE)),
    "networks": mapped(optional(record(NETWORK))), "volumes": mapped(optional(record(VOLUME))),
    "configs": mapped(record(STORED)), "secrets": mapped(record(STORED)),
}  # fmt: skip
_PROJECT = record(_TOP)
TABLES: Mapping[str, Mapping[str, Check]] = {
    "(top)": _TOP, "services.*": SERVICE, "services.*.build": BUILD, "services.*.deploy": DEPLOY,
    "services.*.depends_on.*": DEPENDENCY, "services.*.healthcheck": HEALTH, "services.*.networks.*": ATTACHMENT,
    "services.*.ports[]": PORT, "services.*.volumes[]": MOUNT, "networks.*": NETWORK, "volumes.*": VOLUME,
    "configs.*": STORED, "secrets.*": STORED,
}  # fmt: skip
"""By path, for the reference page."""


def check(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with every value in its usual type. Raises InvalidInput that names the key."""
    found: dict[str, Any] = _PROJECT(dict(document), "")
    return found
