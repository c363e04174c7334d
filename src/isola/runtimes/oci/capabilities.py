"""Which capabilities an instance's processes get, inside its user namespace."""

from __future__ import annotations

from collections.abc import Set

_ALL = (
    "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN",
    "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE",
    "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "PERFMON",
    "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE",
    "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM",
)  # fmt: skip

# A distribution manages itself, so it keeps what its user namespace confines anyway; these speak of the one kernel, the
# one clock or the one machine beneath, and nothing inside has a use for them. (Some service managers ask a capability
# whether they may: the journal of Debian 11 fails on the audit messages of the kernel, which only its host can read.)
_NEVER_FOR_SYSTEMS = frozenset(
    {
        "AUDIT_READ", "BLOCK_SUSPEND", "BPF", "MAC_ADMIN", "MAC_OVERRIDE", "PERFMON", "SYSLOG", "SYS_MODULE",
        "SYS_PACCT", "SYS_RAWIO", "SYS_TIME", "WAKE_ALARM",
    }
)  # fmt: skip

# What container engines have agreed to give one program.
_FOR_APPLICATIONS = (
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
    "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
)  # fmt: skip


def granted(*, system: bool, bounding: Set[str]) -> tuple[str, ...]:
    """``CAP_...`` names for an instance; ``bounding`` is what the host can give, asking for more would fail."""
    names = [name for name in _ALL if name not in _NEVER_FOR_SYSTEMS] if system else _FOR_APPLICATIONS
    return tuple(f"CAP_{name}" for name in names if f"CAP_{name}" in bounding)
