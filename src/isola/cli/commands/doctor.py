"""``isola doctor``."""

from __future__ import annotations

import os
import sys

from isola.cli.grammar import Command, Option
from isola.cli.terminal import clean, colours
from isola.errors import IsolaError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from isola.cli.context import Context
    from isola.client import Client

_PROGRAMS = (
    ("runc crun", "runs containers", "apt-get install runc crun"),
    ("conmon", "keeps instances running while the daemon restarts", "apt-get install conmon"),
    ("lxcfs", "shows an instance its own limits in /proc", "apt-get install lxcfs"),
    ("dnsmasq", "DHCP and DNS on networks", "apt-get install dnsmasq-base"),
    ("nft", "firewall and NAT of networks", "apt-get install nftables"),
    ("ip", "links and addresses", "apt-get install iproute2"),
    ("btrfs", "storage pools on btrfs", "apt-get install btrfs-progs"),
    ("sshfs", "isola file mount", "apt-get install sshfs"),
    ("mmdebstrap", "builds Debian images", "apt-get install mmdebstrap"),
)
_INOTIFY = "fs.inotify.max_user_instances"
_FEW = 256
"""Below this limit of inotify instances, services inside may fail; the kernel's default is 128."""


class Check:
    """One finding: its level, what it means, and the remedy."""

    def __init__(self, name: str, state: str, says: str = "", remedy: str = "") -> None:
        self.name = name
        self.state = state
        """``ok``, ``warning``, ``missing`` or ``failed``."""
        self.says = says
        self.remedy = remedy

    def as_dict(self) -> dict[str, str]:
        """For output as JSON or YAML."""
        return {"name": self.name, "state": self.state, "says": self.says, "remedy": self.remedy}


def doctor(context: Context) -> int:
    """Print what works on this host, what is missing and how to get it."""
    chapters = {"Daemon": list(_daemon(context))}
    if chapters["Daemon"][0].state == "ok":
        chapters |= _drivers(context)
    else:
        chapters["This host"] = list(_programs())
    kind = context.args.text("format")
    if kind in ("json", "yaml"):
        from isola.cli.output import document

        document(context, {title: [check.as_dict() for check in checks] for title, checks in chapters.items()}, kind)
    else:
        sys.stdout.write("\n".join(_shown(chapters)) + "\n")
    return 1 if any(check.state == "failed" for checks in chapters.values() for check in checks) else 0


def _daemon(context: Context) -> Iterable[Check]:
    client = context.client
    client.timeout = 10
    try:
        info = client.server.info()
    except IsolaError as error:
        yield Check("daemon", "failed", f"{error.message}: {error.evidence}".rstrip(": "), error.remedy)
        return
    environment = info.get("environment") or {}
    yield Check(
        "daemon",
        "ok",
        f"version {environment.get('server_version')}, at {client.place}",
    )
    addresses = environment.get("addresses")
    if isinstance(addresses, list) and addresses:
        yield Check("https", "ok", f"the API is served at {', '.join(map(str, addresses))}")
    yield Check("kernel", "ok", f"{environment.get('kernel')} {environment.get('kernel_version')}")
    yield from _unknown(client)
    warnings = environment.get("warnings")
    for problem in warnings if isinstance(warnings, list) else ():
        yield Check("host", "warning", str(problem))
    resources = client.server.resources()
    yield from _limits(resources.get("kernel_limits"))
    yield from _apparmor(resources.get("apparmor"))
    yield from _disks(client)


def _limits(found: object) -> Iterable[Check]:
    """Kernel limits per user. Instances are started by the host's root, so all of them share root's limit."""
    rows = found if isinstance(found, dict) else {}
    row = rows.get(_INOTIFY)
    if isinstance(row, dict) and isinstance(row.get("limit"), int):
        limit, used = row["limit"], int(row.get("used") or 0)
        near = used * 4 >= limit * 3 or limit < _FEW
        remedy = f"sysctl -w {_INOTIFY}=1024, and the same in /etc/sysctl.d" if near else ""
        says = f"{used} of {limit} instances are in use by the host's root; each instance may open {limit}"
        yield Check("inotify", "warning" if near else "ok", says, remedy)


def _disks(client: Client) -> Iterable[Check]:
    """Pools in which an instance without a size of its own can use all space."""
    try:
        pools = client.storage.all()
    except IsolaError:
        return  # a restricted client
    sizes = {str(pool["name"]): str((pool.get("config") or {}).get("volume.size") or "") for pool in pools}
    limited = [f"{name} ({size} each)" for name, size in sizes.items() if size]
    if limited:
        yield Check("disk limits", "ok", f"roots without a size are limited in {', '.join(limited)}")
    if unlimited := [name for name, size in sizes.items() if not size]:
        says = f"an instance without a size can fill storage pool {', '.join(unlimited)}"
        yield Check(
            "disk limits", "warning", says, "a btrfs pool with volume.size, or a file system of its own for the pool"
        )


def _apparmor(label: object) -> Iterable[Check]:
    """No profile is applied to instances: what they run under is inherited from the daemon."""
    if not isinstance(label, str):
        return
    if label.partition(" ")[0] == "unconfined":
        yield Check("apparmor", "ok", "enabled; the daemon and its instances run without a profile")
    else:
        says = f"the daemon and its instances run under the profile {label}, which may deny what they need"
        yield Check("apparmor", "warning", says, "journalctl -k --grep DENIED")


def _unknown(client: Client) -> Iterable[Check]:
    try:
        items = client.admin.unknown()
    except IsolaError:
        return  # an older daemon, or another program's socket
    for item in items:
        if item["type"] == "file":
            continue
        known = f"{item['type']} {item['name'] or item['id']}"
        yield Check(
            "unknown", "warning", f"{known} is not in the database; it is left alone", "isola admin unknown, adopt"
        )
    if files := [str(item.get("path")) for item in items if item["type"] == "file"]:
        says = f"{len(files)} in storage pools, such as {files[0]}, left alone"
        yield Check("foreign files", "warning", says, "isola admin unknown lists them; remove them by hand")


def _drivers(context: Context) -> dict[str, list[Check]]:
    """The results of the daemon's driver probes."""
    environment = context.client.server.info().get("environment") or {}
    found: dict[str, list[Check]] = {"Runtimes": [_probe(item) for item in _listed(environment.get("runtimes"))]}
    drivers = environment.get("drivers")
    for kind, items in drivers.items() if isinstance(drivers, dict) else ():
        found[str(kind).capitalize()] = [_probe(item) for item in _listed(items)]
    return {title: checks for title, checks in found.items() if checks}


def _listed(value: object) -> list[Mapping[str, object]]:
    if isinstance(value, dict):
        return [{"name": name, **item} for name, item in value.items() if isinstance(item, dict)]
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _probe(item: Mapping[str, object]) -> Check:
    name = str(item.get("name") or "")
    if not item.get("available"):
        return Check(name, "missing", str(item.get("reason") or ""), str(item.get("remedy") or ""))
    warnings = item.get("warnings")
    if isinstance(warnings, list) and warnings:
        return Check(name, "warning", "; ".join(map(str, warnings)), str(item.get("remedy") or ""))
    return Check(name, "ok", str(item.get("version") or ""))


def _programs() -> Iterable[Check]:
    """Checks that need no daemon."""
    import shutil

    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if os.geteuid():
        yield Check("root", "warning", "you are not root; the daemon needs to be", "sudo isolad --background")
    for names, purpose, remedy in _PROGRAMS:
        present = [name for name in names.split() if shutil.which(name, path=path)]
        if present:
            yield Check(present[0], "ok", purpose)
        else:
            yield Check(names.replace(" ", " or "), "missing", purpose, remedy)
    kvm = os.access("/dev/kvm", os.R_OK | os.W_OK)
    yield Check("kvm", "ok" if kvm else "missing", "virtual machines", "" if kvm else "containers do not need it")


def _shown(chapters: Mapping[str, Iterable[Check]]) -> Iterable[str]:
    marks = {"ok": "✔", "warning": "!", "missing": "–", "failed": "✘"}
    paints = {"ok": "\x1b[32m", "warning": "\x1b[33m", "missing": "\x1b[2m", "failed": "\x1b[31m"}
    coloured = colours(sys.stdout)
    for number, (title, checks) in enumerate(chapters.items()):
        yield ("\n" if number else "") + title
        for check in checks:
            mark = f"{paints[check.state]}{marks[check.state]}\x1b[0m" if coloured else marks[check.state]
            yield f"  {mark} {check.name:<12} {clean(check.says)}".rstrip()
            if check.remedy:
                yield f"    {'':<12} → {clean(check.remedy)}"


COMMANDS = (
    Command(
        "doctor",
        "Show what works on this host, what is missing, and how to get it",
        doctor,
        Option("-f --format", "How to print it", value="FORMAT", choices=("table", "json", "yaml"), default="table"),
        examples=(("isola doctor", "works with and without a daemon"),),
    ),
)
