"""Parsers of the keys that say how an instance is run. Each raises ValueError with what is expected."""

from __future__ import annotations

import re
import shlex
from ipaddress import ip_address

from isola.model.units import parse_size
from isola.runtimes import seccomp_profile

GATEWAY = "host-gateway"
"""In place of an address: that of the host on the instance's first managed network."""
ULIMITS = frozenset(
    {
        "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
        "rtprio", "rttime", "sigpending", "stack",
    }
)  # fmt: skip
"""Resources of setrlimit(2)."""
NONE, HOST, OTHER = "none", "host", "container"
_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_MOST = 256
_CELLS, _MOST_CELLS = re.compile(r"([0-9]{1,5})x([0-9]{1,5})", re.ASCII), 65535
_MOST_CALLS = 1024
_CALL = re.compile(r"[a-z_][a-z0-9_]{1,39}", re.ASCII)
_LIMIT = re.compile(r"unlimited|-1|[0-9]{1,20}", re.ASCII)
_SYSCTL = re.compile(r"[a-z0-9_]+([./][A-Za-z0-9_*:@-]+)+", re.ASCII)
_IPC = frozenset(
    f"kernel.{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?", re.ASCII)
_PORT, _PROTOCOLS, _LAST_PORT = re.compile(r"[0-9]{1,5}", re.ASCII), ("tcp", "udp", "sctp"), 65535
_GROUP = re.compile(r"[A-Za-z0-9_.$-]{1,64}", re.ASCII)
_RULE = re.compile(r"([abc]) ([0-9]{1,7}|\*):([0-9]{1,7}|\*) ([rwm]{1,3})", re.ASCII)


def command(value: str) -> tuple[str, ...]:
    if not (found := tuple(shlex.split(value))) or "\0" in value:
        raise ValueError("arguments quoted as in a shell are expected")
    return found


def directory(value: str) -> str:
    if not value.startswith("/") or "\0" in value or len(value) > 4095:
        raise ValueError("an absolute path inside the instance is expected")
    return value


def seccomp(value: str) -> str:
    """``default``, ``unconfined``, or a profile."""
    if value.lstrip().startswith("{"):
        seccomp_profile.check(value)
    elif value not in ("default", "unconfined"):
        raise ValueError("default, unconfined or a profile in JSON is expected")
    return value


def system_calls(value: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(value.replace(",", " ").split()))
    if not found or len(found) > _MOST_CALLS or not all(map(_CALL.fullmatch, found)):
        raise ValueError("names of system calls, separated by commas or lines, are expected")
    return found


def paths(value: str) -> tuple[str, ...]:
    """Absolute paths; ``none`` stands for no path."""
    found = () if value == NONE else tuple(part.strip() for part in value.split(","))
    if (
        len(found) > _MOST
        or any(not path.startswith("/") or ".." in path.split("/") for path in found)
        or "\0" in value
    ):
        raise ValueError("absolute paths separated by commas, or none, are expected")
    return found


def groups(value: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in value.split(","))
    if len(found) > 64 or not all(map(_GROUP.fullmatch, found)):
        raise ValueError("names or numbers of groups, separated by commas, are expected")
    return found


def variables(value: str) -> tuple[str, ...]:
    found = tuple(value.split(","))
    if any(not name or "=" in name or "\0" in name for name in found):
        raise ValueError("names of variables, separated by commas, are expected")
    return found


def umask(value: str) -> int:
    found = int(value, 8) if value.isascii() and value.isdigit() and set(value) <= set("01234567") else -1
    if not 0 <= found <= 0o777:
        raise ValueError("permission bits in octal such as 0022 are expected")
    return found


def terminal_size(value: str) -> tuple[int, int]:
    found = _CELLS.fullmatch(value)
    if found is None or not all(0 < int(each) <= _MOST_CELLS for each in found.groups()):
        raise ValueError(f"columns and rows such as 120x40, at most {_MOST_CELLS} each, are expected")
    return int(found[1]), int(found[2])


def shared_memory(value: str) -> int:
    size = parse_size(value)
    if size < 4096:
        raise ValueError("a size of at least 4KiB such as 64MiB is expected")
    return size


def ulimit(value: str) -> tuple[int, int]:
    """Soft and hard limit; -1: none."""
    soft, colon, hard = value.partition(":")
    if not _LIMIT.fullmatch(soft) or (colon and not _LIMIT.fullmatch(hard)):
        raise ValueError("a limit such as 1024, 1024:4096 or unlimited is expected")
    found = _most(soft), _most(hard or soft)
    if found[1] >= 0 and not 0 <= found[0] <= found[1]:
        raise ValueError("a soft limit that is not above the hard limit is expected")
    return found


def resource(name: str) -> None:
    if name not in ULIMITS:
        raise ValueError(f"a resource is expected: {', '.join(sorted(ULIMITS))}")


def sysctl(name: str) -> None:
    """One of a namespace, not one of the host."""
    plain = name.replace("/", ".")
    if not _SYSCTL.fullmatch(name) or not (plain in _IPC or plain.startswith(("net.", "fs.mqueue."))):
        raise ValueError("a sysctl of a namespace is expected: net.*, fs.mqueue.*, kernel.shm* and kernel.msg*")


def addresses(value: str) -> tuple[str, ...]:
    """IP addresses, separated by commas."""
    try:
        found = tuple(str(ip_address(part.strip())) for part in value.split(","))
    except ValueError:
        raise ValueError("IP addresses separated by commas are expected") from None
    return _few(found)


def domains(value: str) -> tuple[str, ...]:
    """Names of domains; ``.`` stands for none."""
    found = tuple(part.strip() for part in value.split(","))
    if any(name != "." and not _HOST.fullmatch(name.rstrip(".")) for name in found):
        raise ValueError("names of domains separated by commas, or a dot for none, are expected")
    return _few(found)


def domain(value: str) -> str:
    if not _HOST.fullmatch(value) or len(value) > 64:
        raise ValueError("the name of a domain, such as example.org, is expected")
    return value


def resolver_options(value: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in value.split(","))
    if any(not re.fullmatch(r"[a-z0-9-]{1,32}(:[0-9]{1,5})?", option, re.ASCII) for option in found):
        raise ValueError("options of resolv.conf such as ndots:2, separated by commas, are expected")
    return _few(found)


def hosts(value: str) -> tuple[tuple[str, str], ...]:
    """Name and address, ``host-gateway``, or ``container:`` with the name or the id of an instance."""
    found = []
    for part in value.split(","):
        name, equals, address = part.strip().partition("=")
        if not equals or not _HOST.fullmatch(name):
            raise ValueError("names with addresses, such as db=192.0.2.7 or host=host-gateway, are expected")
        found.append((name, address if address == GATEWAY or _is_instance(address) else addresses(address)[0]))
    if len(found) > _MOST:
        raise ValueError(f"up to {_MOST} names are expected")
    return tuple(found)


def link(name: str) -> None:
    """One of ``isola.hosts``."""
    if not _HOST.fullmatch(name):
        raise ValueError("a name of isola.hosts is expected")


def link_ports(value: str) -> tuple[tuple[int, str], ...]:
    """Numbers and protocols."""
    if value == NONE:
        return ()
    found = [part.strip().partition("/") for part in value.split(",")]
    if len(found) > _MOST or not all(_PORT.fullmatch(port) and name in _PROTOCOLS for port, _, name in found):
        raise ValueError("ports with a protocol, such as 5432/tcp, are expected")
    if not all(0 < int(port) <= _LAST_PORT for port, _, _ in found):
        raise ValueError(f"ports from 1 to {_LAST_PORT} are expected")
    return tuple((int(port), name) for port, _, name in found)


def _is_instance(value: str) -> bool:
    kind, colon, name = value.partition(":")
    return kind == OTHER and bool(colon) and _INSTANCE.fullmatch(name) is not None


def mode(value: str) -> tuple[str, str]:
    """``private``, ``host``, or ``container`` with the name or the id of an instance."""
    kind, colon, name = value.partition(":")
    if kind in ("private", HOST) and not colon:
        return kind, ""
    if kind != OTHER or not _INSTANCE.fullmatch(name):
        raise ValueError("private, host or container:INSTANCE is expected")
    return kind, name


def network_mode(value: str) -> tuple[str, str]:
    """The same, or ``none``."""
    if value == NONE:
        return NONE, ""
    try:
        return mode(value)
    except ValueError:
        raise ValueError("private, none, host or container:INSTANCE is expected") from None


def device_rules(value: str) -> tuple[str, ...]:
    """In the notation of cgroup v1."""
    found = tuple(" ".join(part.split()) for part in value.split(","))
    if not all(map(_RULE.fullmatch, found)):
        raise ValueError("rules such as `c 10:200 rwm`, separated by commas, are expected")
    return _few(found)


def _few(found: tuple[str, ...]) -> tuple[str, ...]:
    if len(found) > _MOST:
        raise ValueError(f"up to {_MOST} entries are expected")
    return found


def _most(text: str) -> int:
    return -1 if text == "unlimited" else int(text)
