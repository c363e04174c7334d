"""Makes system calls inside an instance, and prints what the kernel or a filter answers: ``system_calls.py``.

Their arguments are such that the kernel itself gives another error than the filter, wherever it can: an address family
with an impossible type of socket is EINVAL, whether or not the kernel has the family. So nothing here has an effect.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import platform

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_BAD = -1
_IMPOSSIBLE_TYPE = 15
NUMBERS = {
    "x86_64": {
        "socket": 41, "socketpair": 53, "ioctl": 16, "syslog": 103, "uselib": 134, "pivot_root": 155,
        "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168,
        "sethostname": 170, "iopl": 172, "ioperm": 173, "create_module": 174, "init_module": 175,
        "delete_module": 176, "lookup_dcookie": 212, "clock_settime": 227, "kexec_load": 246,
        "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272, "move_pages": 279, "timerfd_create": 283,
        "signalfd4": 289, "eventfd2": 290, "epoll_create1": 291, "inotify_init1": 294, "perf_event_open": 298,
        "fanotify_init": 300, "name_to_handle_at": 303, "open_by_handle_at": 304, "setns": 308, "finit_module": 313,
        "seccomp": 317, "memfd_create": 319, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323, "statx": 332,
        "rseq": 334, "clone3": 435,
    },
    "aarch64": {
        "socket": 198, "socketpair": 199, "ioctl": 29, "syslog": 116, "pivot_root": 41, "acct": 89,
        "settimeofday": 170, "mount": 40, "umount2": 39, "swapon": 224, "swapoff": 225, "sethostname": 161,
        "init_module": 105, "delete_module": 106, "lookup_dcookie": 18, "clock_settime": 112, "kexec_load": 104,
        "add_key": 217, "request_key": 218, "keyctl": 219, "unshare": 97, "move_pages": 239, "timerfd_create": 85,
        "signalfd4": 74, "eventfd2": 19, "epoll_create1": 20, "inotify_init1": 26, "perf_event_open": 241,
        "fanotify_init": 262, "name_to_handle_at": 264, "open_by_handle_at": 265, "setns": 268, "finit_module": 273,
        "seccomp": 277, "memfd_create": 279, "kexec_file_load": 294, "bpf": 280, "userfaultfd": 282, "statx": 291,
        "rseq": 293, "clone3": 435,
    },
}[platform.machine()]  # fmt: skip
EVERYWHERE = {
    "pidfd_open": 434, "openat2": 437, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "mount_setattr": 442, "landlock_create_ruleset": 444,
}  # fmt: skip
FAMILIES = {
    "UNIX": 1, "INET": 2, "INET6": 10, "NETLINK": 16, "PACKET": 17,
    "AX25": 3, "IPX": 4, "X25": 9, "KEY": 15, "RDS": 21, "PPPOX": 24, "CAN": 29, "TIPC": 30, "BLUETOOTH": 31,
    "RXRPC": 33, "ALG": 38, "NFC": 39, "VSOCK": 40, "KCM": 41, "QIPCRTR": 42, "SMC": 43, "XDP": 44, "MCTP": 45,
}  # fmt: skip
_FORCED = 1


def answer(name: str, *arguments: object) -> str:
    """The name of the error; "done" for none."""
    number = NUMBERS.get(name) or EVERYWHERE.get(name)
    if number is None:  # not on this architecture
        return "none"
    values = [each if isinstance(each, (bytes, type(None))) else ctypes.c_long(int(str(each))) for each in arguments]
    result = _libc.syscall(ctypes.c_long(number), *values)
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]


def old_socketcall(family: int) -> str:
    """``socketcall(SYS_SOCKET, {family, type, 0})`` as a 32-bit program makes it."""
    if platform.machine() != "x86_64":
        return "none"
    below = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40, prot=7)  # in the first 2 GiB
    place = ctypes.addressof(ctypes.c_char.from_buffer(below))
    # push rbx; mov eax, 102; mov ebx, 1; mov ecx, arguments; int 0x80; pop rbx; cdqe; ret
    code = b"\x53\xb8\x66\0\0\0\xbb\x01\0\0\0\xb9" + (place + 256).to_bytes(4, "little") + b"\xcd\x80\x5b\x48\x98\xc3"
    below[: len(code)] = code
    below[256:268] = b"".join(value.to_bytes(4, "little") for value in (family, _IMPOSSIBLE_TYPE, 0))
    result = ctypes.CFUNCTYPE(ctypes.c_long)(place)()
    return "done" if result >= 0 else errno.errorcode[-result]


def answers() -> dict[str, str]:
    """Of all of them, by a name of the call."""
    found = {f"socket {name}": answer("socket", family, _IMPOSSIBLE_TYPE, 0) for name, family in FAMILIES.items()}
    found |= {
        f"socketpair {name}": answer("socketpair", FAMILIES[name], _IMPOSSIBLE_TYPE, 0, None) for name in FAMILIES
    }
    found["socket ALG, upper half set"] = answer("socket", 1 << 32 | FAMILIES["ALG"], _IMPOSSIBLE_TYPE, 0)
    found["socketcall ALG"] = old_socketcall(FAMILIES["ALG"])
    found["umount2 forced"] = answer("umount2", None, _FORCED)
    found["ioctl subvolume"] = answer("ioctl", _BAD, 0x5000940E, None)
    plain: dict[str, tuple[object, ...]] = {
        "bpf": (99, None, 0), "userfaultfd": (_BAD,), "perf_event_open": (None, 0, -1, -1, _BAD),
        "io_uring_setup": (0, None), "io_uring_enter": (_BAD, 0, 0, 0, None, 0),
        "io_uring_register": (_BAD, 0, None, 0),
        "open_by_handle_at": (_BAD, None, 0), "move_pages": (0, 1, None, None, None, _BAD),
        "lookup_dcookie": (0, None, 0), "uselib": (None,), "create_module": (None, 0), "init_module": (None, 0, None),
        "finit_module": (_BAD, None, _BAD), "delete_module": (None, 0), "kexec_load": (0, 0, None, _BAD),
        "kexec_file_load": (_BAD, _BAD, 0, None, _BAD), "acct": (None,), "syslog": (_BAD, None, 0),
        "settimeofday": (1, None), "clock_settime": (_BAD, None), "swapon": (None, 0), "swapoff": (None,),
        "iopl": (99,), "ioperm": (_BAD, 1, 1),
        "add_key": (None, None, None, 0, 0), "request_key": (None, None, None, 0), "keyctl": (_BAD, 0, 0, 0, 0),
        "mount": (None, None, None, 0, None), "umount2": (None, 0), "pivot_root": (None, None), "unshare": (0,),
        "setns": (_BAD, 0), "sethostname": (None, _BAD), "fsopen": (None, 0), "fsconfig": (_BAD, 0, None, None, 0),
        "fsmount": (_BAD, 0, 0), "fspick": (_BAD, None, 0), "open_tree": (_BAD, None, 0),
        "move_mount": (_BAD, None, _BAD, None, _BAD), "mount_setattr": (_BAD, None, 0, None, 0),
        "name_to_handle_at": (_BAD, None, None, None, 0), "fanotify_init": (_BAD, 0), "clone3": (None, 0),
        "pidfd_open": (_BAD, 0), "openat2": (_BAD, None, None, 0), "landlock_create_ruleset": (None, 0, _BAD),
        "seccomp": (_BAD, 0, None), "memfd_create": (None, 0), "timerfd_create": (_BAD, 0),
        "signalfd4": (_BAD, None, 0, 0),
        "eventfd2": (0, _BAD), "epoll_create1": (_BAD,), "inotify_init1": (_BAD,), "statx": (_BAD, None, 0, 0, None),
        "rseq": (None, 0, _BAD, 0),
    }  # fmt: skip
    return found | {name: answer(name, *arguments) for name, arguments in plain.items()}


if __name__ == "__main__":
    print(json.dumps(answers()))
