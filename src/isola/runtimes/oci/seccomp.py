"""System call filters of instances.

They are deny lists, because these are short, and engines compile the filter for every command that is run inside an
instance (an allow list of the usual 350 calls doubles the time of an exec). System calls that are not listed here are
confined by the user namespace, which every instance has.
"""

from __future__ import annotations

from collections.abc import Sequence

_EPERM = 1
_ENOSYS = 38
_EAFNOSUPPORT = 97
_MNT_FORCE = 1
_CLONE_FLAGS = (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
"""New mount, cgroup, UTS, IPC, user, PID and network namespace."""
NEW_NAMESPACES = sum(_CLONE_FLAGS)
FAMILIES = (0, 1, 2, 10, 16, 17)
"""Address families that are not rare: Unix, IPv4, IPv6, netlink, packet."""
_MAKE_SOCKET, _MAKE_PAIR = 1, 8
"""Request numbers of the old ``socketcall``."""
_RARE_FAMILIES = tuple((0xFFFFFFFF ^ below, first) for first, below in (
    (3, 0), (4, 3), (8, 1),  # AX.25, IPX, AppleTalk, NET/ROM, ATM, X.25; 10 is IPv6
    (11, 0), (12, 3),  # Rose, DECnet, PF_KEY; 16 is netlink, 17 packet
    (18, 1), (20, 3), (24, 7), (32, 31),  # RDS, PPPoX, CAN, TIPC, Bluetooth, RxRPC, ALG, vsock, XDP, and all that come
))  # fmt: skip
"""Address families that no distribution needs, as a mask and the masked value.

The kernel uses the lower half of the register, so a comparison of all 64 bits would miss values with higher bits set.
"""

_SUBVOLUME_REQUESTS = (0x5000940E, 0x50009418, 0x50009401, 0x50009417)
"""``ioctl`` requests of btrfs: create a subvolume or a snapshot, in an old and a new form each.

All users may create them, and data in them does not count towards the quota of the volume.
"""
_ENOTTY = 25
"""As on other file systems: programs then create a directory."""

_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}

ALWAYS = (
    # the kernel itself: modules, another kernel, programs inside it
    "bpf", "create_module", "delete_module", "finit_module", "init_module", "kexec_file_load", "kexec_load",
    # the one machine beneath: its ports, swap, clock, log, accounting
    "acct", "clock_settime", "clock_settime64", "ioperm", "iopl", "settimeofday", "stime", "swapoff", "swapon",
    "syslog",
    # ways around path names and around other filters
    "io_uring_enter", "io_uring_register", "io_uring_setup", "open_by_handle_at",
    # large surfaces that were the way out before, and that nothing in a distribution needs
    "lookup_dcookie", "move_pages", "perf_event_open", "uselib", "userfaultfd", "vm86", "vm86old",
)  # fmt: skip
"""Denied in system and application containers."""

KEYS = ("add_key", "keyctl", "request_key")
"""Keyrings: ENOSYS, because EPERM makes some service managers and engines inside fail."""

FOR_APPLICATIONS = (
    # mounts and namespaces, which only system containers need
    "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount", "open_tree", "pivot_root",
    "setns", "umount", "umount2", "unshare",
    # quotas, memory of others, odds and ends that reach beyond the process
    "fanotify_init", "mbind", "migrate_pages", "name_to_handle_at", "nfsservctl",
    "process_madvise", "quotactl", "quotactl_fd", "reboot", "set_mempolicy", "set_mempolicy_home_node",
    "setdomainname", "sethostname", "vhangup",
)  # fmt: skip
"""Denied in addition in application containers, unless they have CAP_SYS_ADMIN."""


def profile(*, system: bool, architecture: str) -> dict[str, object]:
    """The ``linux.seccomp`` entry of an OCI configuration; ``system``: with mounts and namespaces."""
    rules = [_refuse(ALWAYS), _refuse(KEYS, errno=_ENOSYS)]
    rules += [
        # Most families do not support pairs, but fail only after two sockets have been created.
        _refuse(["socket", "socketpair"], errno=_EAFNOSUPPORT, args=[_under(0, mask, family)])
        for mask, family in _RARE_FAMILIES
    ]
    rules += [
        _refuse(["ioctl"], errno=_ENOTTY, args=[_under(1, 0xFFFFFFFF, request)]) for request in _SUBVOLUME_REQUESTS
    ]
    # Its arguments are in memory, which a filter cannot read; the C libraries of 32-bit programs have called `socket`
    # directly since 2016.
    rules += [
        _refuse(["socketcall"], errno=_ENOSYS, args=[_under(0, 0xFFFFFFFF, what)])
        for what in (_MAKE_SOCKET, _MAKE_PAIR)
    ]
    if system:
        # A forced unmount aborts requests of a file system that the host shares with others.
        rules.append(_refuse(["umount2"], args=[_masked(1, _MNT_FORCE)]))
    else:
        rules.append(_refuse(FOR_APPLICATIONS))
        rules += [_refuse(["clone"], args=[_masked(0, flag)]) for flag in _CLONE_FLAGS]
        # The flags of clone3 are in memory, which a filter cannot read; C libraries fall back to clone after ENOSYS.
        rules.append(_refuse(["clone3"], errno=_ENOSYS))
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": _ARCHITECTURES.get(architecture, []),
        "syscalls": rules,
    }


def _refuse(names: Sequence[str], *, errno: int = _EPERM, **more: object) -> dict[str, object]:
    return {"names": list(names), "action": "SCMP_ACT_ERRNO", "errnoRet": errno, **more}


def _masked(index: int, flag: int) -> dict[str, object]:
    return _under(index, flag, flag)


def _under(index: int, mask: int, value: int) -> dict[str, object]:
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
