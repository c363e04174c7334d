"""Capabilities of the kernel, and which of them instances get. Names are without ``CAP_``."""

from __future__ import annotations

from collections.abc import Iterable, Set

EVERY = "ALL"
BY_NUMBER = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip
"""As the kernel counts them (linux/capability.h)."""
KNOWN = tuple(sorted(BY_NUMBER))

# A system container keeps all capabilities that its user namespace confines. These affect the shared kernel, clock or
# machine, and are useless inside. (Some programs check a capability before they use a feature: the journal of Debian 11
# fails if it has the one for the kernel's audit messages, which only the host can read.)
_NEVER_FOR_SYSTEMS = frozenset(
    {
        "AUDIT_READ", "BLOCK_SUSPEND", "BPF", "MAC_ADMIN", "MAC_OVERRIDE", "PERFMON", "SYSLOG", "SYS_MODULE",
        "SYS_PACCT", "SYS_RAWIO", "SYS_TIME", "WAKE_ALARM",
    }
)  # fmt: skip

# The default set of container engines.
_FOR_APPLICATIONS = frozenset(
    {
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
        "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    }
)  # fmt: skip


def capabilities(text: str) -> tuple[str, ...]:
    """``NET_ADMIN,cap_sys_time`` as names, without duplicates; ``ALL`` stands for all. Raises ValueError."""
    found = [name.upper().removeprefix("CAP_") for name in text.replace(",", " ").split()]
    if not found or any(name not in KNOWN and name != EVERY for name in found):
        raise ValueError("names of capabilities such as NET_ADMIN, or ALL, separated by commas, are expected")
    return tuple(dict.fromkeys(found))


def granted(*, system: bool, bounding: Set[str], add: Iterable[str] = (), drop: Iterable[str] = ()) -> tuple[str, ...]:
    """``CAP_...`` names for an instance, limited to ``bounding``, the daemon's own set: engines fail on others."""
    add, drop = set(add), set(drop)
    base = set(KNOWN) - _NEVER_FOR_SYSTEMS if system else set(_FOR_APPLICATIONS)
    found = (base - drop) | add
    if EVERY in add:
        found = set(KNOWN) - drop
    elif EVERY in drop:
        found = add
    return tuple(f"CAP_{name}" for name in KNOWN if name in found and f"CAP_{name}" in bounding)
