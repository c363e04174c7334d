"""Configuration keys that say how the program of an instance is run and how far it is confined."""

from __future__ import annotations

from isola.instances import run_values
from isola.model.capabilities import capabilities
from isola.model.ports import spans
from isola.settings import Setting, boolean, one_of, text, whole

_MOST_IDS = 65_534
"""The highest id that exists in an instance."""

RUN = (
    Setting(
        "oci.entrypoint",
        run_values.command,
        "Command and arguments in place of those of its image, quoted as in a shell.",
        expects="arguments quoted as in a shell",
    ),
    Setting("oci.cwd", run_values.directory, "Working directory of its program in place of that of its image."),
    Setting("oci.uid", whole(0, _MOST_IDS), "User id of its program in place of that of its image."),
    Setting("oci.gid", whole(0, _MOST_IDS), "Group id of its program in place of that of its image."),
    Setting("isola.groups", run_values.groups, "Further groups of its program, separated by commas: `33,audio`."),
    Setting("isola.umask", run_values.umask, "Permission bits that new files of its program do not get, in octal."),
    Setting(
        "isola.init",
        boolean,
        "Run a small init (`tini`) as the first process, which reaps orphans and passes signals on to the program.",
        "false",
    ),
    Setting(
        "isola.microvm.warm",
        boolean,
        "MicroVMs: start from the memory of a kernel that has booted before for a guest of the same size.",
        "false",
    ),
    Setting(
        "isola.environment.empty",
        run_values.variables,
        "Environment variables without a value, separated by commas; `environment.*` keys always have one.",
        live=True,
    ),
    Setting(
        "isola.environment.unset",
        run_values.variables,
        "Environment variables of its image that its program and commands do not get, separated by commas.",
        live=True,
    ),
    Setting(
        "isola.privileged",
        boolean,
        "What container engines call privileged: `security.privileged`, all capabilities of the daemon, all devices of "
        "the host, no filter but one of `isola.seccomp`, no masked and no read-only paths. Chosen at creation, where "
        "that is allowed.",
        "false",
    ),
    Setting(
        "isola.capabilities.add",
        capabilities,
        "Capabilities of its processes in addition: `NET_ADMIN,SYS_PTRACE`, or `ALL`; within those of the daemon.",
    ),
    Setting("isola.capabilities.drop", capabilities, "Capabilities that its processes do not have: `NET_RAW`, `ALL`."),
    Setting(
        "isola.no_new_privileges",
        boolean,
        "Programs with a set-user-ID bit or with capabilities of files get nothing from these.",
        "false",
    ),
    Setting(
        "isola.seccomp",
        run_values.seccomp,
        "System call filter: `default`, `unconfined`, or a profile in JSON, in the format of container engines.",
        "default",
        expects="default, unconfined or a profile in JSON",
    ),
    Setting(
        "security.syscalls.allow",
        run_values.system_calls,
        "The system calls that its programs may make, by name, separated by commas or lines, of those that the default "
        "filter permits; all others are refused and reported. Learning a profile writes it.",
        expects="names of system calls such as `read,write,openat`",
    ),
    Setting(
        "isola.paths.writable",
        run_values.paths,
        "Paths in its root that stay writable, while all others are read-only; `none`: no path. What is mounted there, "
        "as volumes and `/tmp` of systems, is not affected.",
    ),
    Setting(
        "isola.ports.listen",
        spans,
        "Ports to which its programs may bind: `tcp/80,udp/8000-8100`, or `none`; all others are refused and reported. "
        "A port that the kernel chooses is always permitted.",
        expects="ports such as `tcp/80,udp/8000-8100`, or none",
        live=True,
    ),
    Setting(
        "isola.ports.connect",
        spans,
        "Ports, of whatever host, to which its programs may connect or send datagrams, or `none`; all others are "
        "refused and reported. Datagrams from a port of `isola.ports.listen` are answers and permitted.",
        expects="ports such as `tcp/443,udp/53`, or none",
        live=True,
    ),
    Setting(
        "isola.paths.masked",
        run_values.paths,
        "Paths that show nothing inside, in place of the default ones; `none`: all are shown.",
    ),
    Setting(
        "isola.paths.readonly",
        run_values.paths,
        "Paths in `/proc` and `/sys` that are read-only inside, in place of the default ones; `none`: no path.",
    ),
    Setting(
        "isola.oom.score_adj",
        whole(-1000, 1000),
        "How early the kernel kills its processes when the host's memory is exhausted; higher is earlier. Below 0 the "
        "daemon needs CAP_SYS_RESOURCE.",
    ),
    Setting(
        "isola.terminal.size",
        run_values.terminal_size,
        "Columns and rows of the terminal of an application container when its program starts; later clients say.",
        "80x25",
        expects="columns and rows such as 120x40",
    ),
    Setting("isola.shm.size", run_values.shared_memory, "Size of `/dev/shm`; by default `limits.tmpfs`."),
    Setting(
        "isola.namespaces.network",
        run_values.network_mode,
        "Network: `private` with its NICs, `none`, that of the `host`, or that of another instance: `container:db`.",
        "private",
        expects="private, none, host or container:INSTANCE",
    ),
    *(
        Setting(
            f"isola.namespaces.{kind}",
            run_values.mode,
            f"{what}: `private`, those of the `host`, or of another instance: `container:db`.",
            "private",
            expects="private, host or container:INSTANCE",
        )
        for kind, what in (("pid", "Processes that it sees"), ("ipc", "Shared memory and queues"), ("uts", "Host name"))
    ),
    Setting(
        "isola.namespaces.cgroup",
        one_of("private", "host"),
        "Control groups that it sees: `private`, its own, or those of the `host`, which it cannot change.",
        "private",
    ),
    Setting(
        "isola.sandbox.network",
        one_of("own", "host"),
        "Network stack of a sandbox: its `own`, or that of the `host` in its network namespace, which is faster.",
        "own",
    ),
    Setting(
        "isola.devices.host",
        boolean,
        "All devices of the host exist inside, and may be opened as far as its ids permit.",
        "false",
    ),
    Setting(
        "isola.devices.allow",
        run_values.device_rules,
        "Devices that its processes may open beside those among its devices: `c 10:200 rwm`, `a *:* rwm` for all.",
        expects="rules such as `c 10:200 rwm`, separated by commas",
    ),
    Setting(
        "isola.domainname",
        run_values.domain,
        "Domain of its host name in its `/etc/hosts`, where `isola.hostname` has none: `example.org`.",
    ),
    Setting(
        "isola.hosts",
        run_values.hosts,
        "Further names in its `/etc/hosts`: `db=192.0.2.7`, `host=host-gateway` for the host on its managed networks, "
        "`db=container:shop-db` for an instance on one of its networks, with the addresses at its own start.",
        expects="names with addresses, such as db=192.0.2.7 or host=host-gateway",
    ),
    Setting(
        "isola.links.*",
        run_values.link_ports,
        "Ports that an instance serves which `isola.hosts` calls so: `isola.links.db=5432/tcp`, or `none`. Variables "
        "have its address, these ports and its variables, and `/etc/hosts` has its own names too, as by a link of "
        "Docker.",
        names=run_values.link,
        expects="ports with a protocol, such as 5432/tcp,53/udp, or none",
    ),
    Setting(
        "isola.dns.servers",
        run_values.addresses,
        "Name servers in its `/etc/resolv.conf`; by default those of its managed networks, else the host's.",
    ),
    Setting(
        "isola.dns.search",
        run_values.domains,
        "Domains in which it looks for names; a dot for none; by default those of its managed networks.",
    ),
    Setting("isola.dns.options", run_values.resolver_options, "Options in its `/etc/resolv.conf`: `ndots:2,rotate`."),
    Setting(
        "limits.kernel.*",
        run_values.ulimit,
        "Resource limits of its processes (`nofile`, `nproc`, `core`, ...), soft and hard: `1024:4096`, `unlimited`.",
        names=run_values.resource,
    ),
    Setting(
        "linux.sysctl.*",
        text,
        "Sysctls of its own namespaces: `linux.sysctl.net.core.somaxconn=1024`.",
        names=run_values.sysctl,
    ),
)
