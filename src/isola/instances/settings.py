"""Configuration keys of instances, as the LXD API names them."""

from __future__ import annotations

from isola.instances.deploy_settings import DEPLOY_SETTINGS
from isola.instances.health_settings import HEALTH_SETTINGS
from isola.instances.limit_settings import LIMITS
from isola.instances.log_settings import LOG_SETTINGS
from isola.instances.machine_settings import MACHINE
from isola.instances.restart_policy import RESTART_SETTINGS
from isola.instances.run_settings import RUN
from isola.instances.seeds import CLOUD
from isola.model.isolation import ISOLATIONS
from isola.model.names import full_hostname
from isola.model.schedule import parse_pattern, parse_period, parse_schedule
from isola.model.units import parse_cpu_set, parse_size
from isola.settings import Setting, Settings, boolean, one_of, text, whole

HOSTNAME = "isola.hostname"


def _cpus(value: str) -> object:
    if value.isascii() and value.isdigit():
        return whole(1, 4096)(value)
    return parse_cpu_set(value)


def _memory(value: str) -> object:
    if value.endswith("%"):
        return whole(1, 100)(value[:-1])
    size = parse_size(value)
    if size < 4 * 2**20:
        raise ValueError("at least 4MiB is expected")
    return size


def _room(value: str) -> object:
    if value.endswith("%"):
        return whole(1, 100)(value[:-1])
    size = parse_size(value)
    if size < 2**20:
        raise ValueError("at least 1MiB is expected")
    return size


SETTINGS = Settings(
    "instance",
    Setting(
        "limits.cpu",
        _cpus,
        "Number of CPUs, or a set of CPUs: `2`, `0-1,3`. Empty: all.",
        live=True,
        expects="a CPU set such as 0-3, or a number of CPUs",
    ),
    Setting(
        "limits.memory",
        _memory,
        "Memory as a size or a percentage of the host's: `512MiB`, `25%`.",
        live=True,
        expects="a size of at least 4MiB, such as 512MiB, or a percentage such as 25%",
    ),
    *DEPLOY_SETTINGS,
    *LIMITS,
    Setting("limits.processes", whole(1, 4_194_304), "Maximum number of processes and threads.", "8192", live=True),
    Setting(
        "limits.tmpfs",
        _room,
        "Size of each of `/run` and `/dev/shm`, also as a percentage of its memory.",
        "10%",
        expects="a size of at least 1MiB, such as 512MiB, or a percentage such as 25%",
    ),
    Setting("limits.terminals", whole(8, 1_048_576), "Maximum number of pseudo-terminals.", "256"),
    Setting("boot.autostart", boolean, "Start after a boot of the host; by default if it ran before.", live=True),
    Setting("boot.autostart.priority", whole(0, 1_000_000), "Higher starts first.", "0", live=True),
    Setting("boot.stop.priority", whole(0, 1_000_000), "Higher stops first.", "0", live=True),
    Setting("boot.host_shutdown_timeout", whole(0, 86_400), "Seconds to wait for a clean stop.", "30", live=True),
    Setting(
        "security.privileged",
        boolean,
        "Run without a user namespace: root inside is the host's root. Chosen at creation, where that is allowed.",
        "false",
    ),
    Setting(
        "isola.isolation",
        one_of(*ISOLATIONS),
        "Kind of isolation of new instances that do not name one. A change has no effect on existing ones: move them.",
        "container",
    ),
    Setting(
        "migration.stateful",
        boolean,
        "Whether what it has in memory may be saved: by stops and snapshots with `--stateful`.",
        "true",
        live=True,
    ),
    Setting(
        "security.nesting",
        boolean,
        "No effect: containers may run in system containers in any case, with the user namespace of these.",
        "false",
        live=True,
    ),
    Setting(
        "security.idmap.isolated",
        boolean,
        "No effect: each instance has user ids of its own.",
        "true",
        live=True,
    ),
    Setting("security.protection.delete", boolean, "Refuse to delete the instance.", "false", live=True),
    Setting(
        "security.protection.shift",
        boolean,
        "No effect: user ids in root volumes never change.",
        "false",
        live=True,
    ),
    Setting(
        "snapshots.schedule",
        parse_schedule,
        "When snapshots are taken: cron expressions, or `@hourly`, `@daily` and so on, separated by a comma and a"
        " space; `@startup`: in the minute after each start.",
        live=True,
        expects="a cron expression of five fields, or @hourly, @daily, @weekly, @monthly, @annually",
    ),
    Setting(
        "snapshots.schedule.stopped", boolean, "Also take scheduled snapshots while it is stopped.", "false", live=True
    ),
    Setting(
        "snapshots.pattern",
        parse_pattern,
        "Default name of snapshots: `%d` is a number, `{{ creation_date }}` the time.",
        "snap%d",
        live=True,
        expects="a name with one %d, or with {{ creation_date|date:'2006-01-02' }}",
    ),
    Setting(
        "snapshots.expiry",
        parse_period,
        "Time after which new snapshots are deleted: `1M 2H 3d 4w 5m 6y`.",
        live=True,
        expects="a time span such as 12H or 1w 2d",
    ),
    Setting(
        HOSTNAME,
        full_hostname,
        "Host name inside, from its next start on: `mail.example.org`. By default its name.",
        expects="a host name such as mail or mail.example.org",
    ),
    *RESTART_SETTINGS,
    *HEALTH_SETTINGS,
    *LOG_SETTINGS,
    *RUN,
    *MACHINE,
    Setting(
        "environment.*",
        text,
        "Environment variables of commands, and from its next start on of the instance.",
        live=True,
    ),
    *CLOUD,
    Setting("user.*", text, "User-defined, not interpreted.", live=True),
    Setting("image.*", text, "Properties of its image.", live=True, read_only=True),
    Setting("volatile.*", text, "Internal data of the daemon.", live=True, read_only=True),
)
