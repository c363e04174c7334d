"""A filter that allows system calls by name and refuses all others.

It never allows what the filter that every instance has would refuse, so a list of names only narrows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from isola.runtimes.oci.seccomp import ALWAYS, FAMILIES, FOR_APPLICATIONS, KEYS, NEW_NAMESPACES

REPORTED = "SECCOMP_FILTER_FLAG_LOG"
_EPERM, _ENOSYS = 1, 38
_LOWER = 0xFFFFFFFF
_MNT_FORCE = 1
_SUBVOLUMES, _SUBVOLUMES_MASK = 0x50009400, 0xFFFFFF00
"""Requests of btrfs with which volumes would be left."""
_ARCHITECTURES = {"x86_64": ["SCMP_ARCH_X86_64"], "aarch64": ["SCMP_ARCH_AARCH64"]}

_NEEDED = """
    access arch_prctl brk capget capset chdir clock_nanosleep clone close close_range dup dup2 dup3 epoll_create1
    epoll_ctl epoll_pwait eventfd2 execve exit exit_group faccessat faccessat2 fchdir fchown fcntl fstat
    fstatfs futex getcwd getdents64 getegid geteuid getgid getgroups getpgrp getpid getppid getrandom gettid getuid
    ioctl lseek lstat madvise mmap mprotect munmap nanosleep newfstatat open openat openat2 pipe2 poll ppoll prctl
    pread64 prlimit64 pselect6 read readlink readlinkat rseq rt_sigaction rt_sigprocmask rt_sigreturn
    sched_getaffinity sched_yield select sendmsg set_robust_list set_tid_address setgid setgroups setpgid setresgid
    setresuid setrlimit setsid setuid sigaltstack stat statfs statx tgkill umask uname wait4 write writev
"""
ALWAYS_NEEDED = frozenset(_NEEDED.split())
"""Allowed beside those of a list. Engines make them behind the filter, before they execute a program: without
them, nothing starts, and no command can be run inside.
"""


def allowing(names: Iterable[str], *, system: bool, architecture: str, report: bool) -> dict[str, object]:
    """The ``linux.seccomp`` entry of an OCI configuration; ``report``: the kernel's audit tells what was refused."""
    never = {*ALWAYS, *KEYS, *(() if system else (*FOR_APPLICATIONS, "clone3"))}
    allowed = (set(names) | ALWAYS_NEEDED) - never
    some = {name: rules for name, rules in _with_conditions(system=system) if name in allowed}
    rules: list[dict[str, object]] = [{"names": sorted(allowed - some.keys()), "action": "SCMP_ACT_ALLOW"}]
    for name in sorted(some):
        rules += [{"names": [name], "action": "SCMP_ACT_ALLOW", "args": [rule]} for rule in some[name]]
    # Programs do without them if the kernel seems not to have them.
    unknown = sorted({*KEYS, "clone3"} - allowed)
    rules.append({"names": unknown, "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _EPERM,
        "architectures": _ARCHITECTURES.get(architecture, []),
        **({"flags": [REPORTED]} if report else {}),
        "syscalls": rules,
    }


def _with_conditions(*, system: bool) -> Iterator[tuple[str, Sequence[dict[str, object]]]]:
    """Calls that are allowed if one of their rules fits."""
    families = [_under(0, _LOWER, family) for family in FAMILIES]
    yield from (("socket", families), ("socketpair", families))
    yield "ioctl", list(_unlike(1, _SUBVOLUMES_MASK, _SUBVOLUMES))
    if system:
        yield "umount2", [_under(1, _MNT_FORCE, 0)]
    else:
        yield "clone", [_under(0, NEW_NAMESPACES, 0)]


def _unlike(index: int, mask: int, value: int) -> Iterator[dict[str, object]]:
    """An argument differs from a value if one of its bits does."""
    for bit in (1 << number for number in range(32)):
        if mask & bit:
            yield _under(index, bit, ~value & bit)


def _under(index: int, mask: int, value: int) -> dict[str, object]:
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
