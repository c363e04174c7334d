"""Properties of this host, for probes and clients."""

from __future__ import annotations

import functools
import os
import re
import resource
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from isola.host import devices, proc, sealed_programs
from isola.host.cgroup_tree import parse_cpus
from isola.host.programs import find_program
from isola.host.threads import in_thread
from isola.model.capabilities import BY_NUMBER

_MEMORY = re.compile(r"^([^:\s]+):\s*(\d+)( kB)?$", re.MULTILINE)
_INOTIFY = "fs.inotify.max_user_instances"
_LIMITS = (_INOTIFY, "fs.inotify.max_user_watches")


@dataclass(frozen=True, slots=True)
class Kernel:
    """Values of ``uname``."""

    name: str
    release: str
    version: str
    architecture: str
    hostname: str


class System(Protocol):
    """Quick reads; values that cannot change are read once."""

    def kernel(self) -> Kernel: ...

    def capabilities(self) -> frozenset[str]:
        """The daemon's capability bounding set as ``CAP_...`` names: no child can have more."""
        ...

    def cpus(self) -> Sequence[Mapping[str, object]]:
        """Online CPUs as ``{"id": 0, "core": 0, "socket": 0, "numa_node": 0, "model": "...", "vendor": "..."}``."""
        ...

    def memory(self) -> Mapping[str, int]:
        """``/proc/meminfo`` in bytes."""
        ...

    @property
    def memory_total(self) -> int:
        """``MemTotal`` alone, which takes one microsecond, not forty."""
        ...

    def os_release(self) -> Mapping[str, str]: ...

    def cpu_time_ns(self) -> int:
        """CPU time of all processes and idle time, since the boot."""
        ...

    def find_program(self, name: str) -> Path | None:
        """The path of a program on PATH or in the sbin directories."""
        ...

    async def sealed_program(self, name: str) -> Path | None:
        """The path of a sealed copy of the program in memory; None if there is no such program.

        The path is valid as long as the daemon lives, and another one after the program was upgraded. It is that of
        the program itself on hosts that refuse to execute memfds.
        """
        ...

    def file_systems(self) -> frozenset[str]:
        """File systems that the kernel supports, or has a module for."""
        ...

    def kernel_limits(self) -> Mapping[str, Mapping[str, int]]:
        """Sysctl -> ``limit``, and ``used`` by root of the host if known: limits that many instances may reach.

        Reads ``/proc`` of all processes: call it in a thread.
        """
        ...

    def apparmor(self) -> str | None:
        """The label of AppArmor under which the daemon and what it starts run, as in ``unconfined`` or
        ``isolad (enforce)``; None if the kernel does not confine by it."""
        ...

    def machine_id(self) -> str: ...

    def boot_id(self) -> str:
        """Changes with every boot of the host."""
        ...

    def pid(self) -> int:
        """The daemon's PID."""
        ...

    def open_files(self) -> tuple[int, int]:
        """Number of the daemon's open descriptors, and their limit."""
        ...

    def resource_limit(self, name: str) -> int:
        """The daemon's hard limit of a resource of setrlimit(2), such as ``nofile``; -1: none."""
        ...

    def devices(self) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """``{"network": [...], "storage": [...], "gpu": [...], "usb": [...], "pci": [...]}`` for the resources page,
        and ``system`` with the machine itself, if its firmware describes it.

        Walks through ``/sys``, which takes some milliseconds: call it in a thread.
        """
        ...


class LinuxSystem:
    """Reads ``/proc``, ``/sys`` and ``/etc`` below ``root``."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def resource_limit(self, name: str) -> int:
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        return -1 if number is None else resource.getrlimit(number)[1]

    @functools.lru_cache(maxsize=1)  # noqa: B019 - one object lives as long as the daemon
    def kernel(self) -> Kernel:
        uname = os.uname()
        return Kernel(uname.sysname, uname.release, uname.version, uname.machine, uname.nodename)

    @functools.lru_cache(maxsize=1)  # noqa: B019
    def capabilities(self) -> frozenset[str]:
        found = re.search(r"^CapBnd:\s*([0-9a-f]+)$", self._read("proc/self/status"), re.MULTILINE)
        bits = int(found[1], 16) if found else 0
        return frozenset(f"CAP_{name}" for bit, name in enumerate(BY_NUMBER) if bits >> bit & 1)

    def cpus(self) -> Sequence[Mapping[str, object]]:
        return self._cpus(self._read("sys/devices/system/cpu/online"))

    def memory(self) -> Mapping[str, int]:
        rows = _MEMORY.findall(self._read("proc/meminfo"))
        return {name: int(number) * (1024 if unit else 1) for name, number, unit in rows}

    @property
    def memory_total(self) -> int:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def os_release(self) -> Mapping[str, str]:
        text = self._read("etc/os-release") or self._read("usr/lib/os-release")
        pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
        return {name: "".join(shlex.split(value)[:1]) for name, _, value in pairs}

    def cpu_time_ns(self) -> int:
        """The first seven numbers of ``/proc/stat``: the others are contained in them."""
        fields = self._read("proc/stat").partition("\n")[0].split()[1:8]
        return sum(map(_number, fields)) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))

    def find_program(self, name: str) -> Path | None:
        return find_program(name)

    async def sealed_program(self, name: str) -> Path | None:
        """Copied in a thread at the first call."""
        found = find_program(name)
        if found is None:
            return None
        return sealed_programs.known(found) or await in_thread(sealed_programs.sealed, found)

    def file_systems(self) -> frozenset[str]:
        loaded = frozenset(line.split()[-1] for line in self._read("proc/filesystems").splitlines())
        return loaded | self._loadable()

    def kernel_limits(self) -> Mapping[str, Mapping[str, int]]:
        found = {name: self._read(f"proc/sys/{name.replace('.', '/')}").strip() for name in _LIMITS}
        limits = {name: {"limit": int(text)} for name, text in found.items() if text.isdigit()}
        if _INOTIFY in limits:
            limits[_INOTIFY]["used"] = proc.open_inotify(self._root / "proc", owner=0)
        return limits

    def apparmor(self) -> str | None:
        if self._read("sys/module/apparmor/parameters/enabled").strip() != "Y":
            return None
        # The second has the label of the first module that has labels, which was the only place before Linux 5.8.
        found = self._read("proc/self/attr/apparmor/current") or self._read("proc/self/attr/current")
        return found.strip("\0\n") or None

    def machine_id(self) -> str:
        """``/etc/machine-id``; if there is none, the boot id, which changes with every boot."""
        text = self._read("etc/machine-id").strip() or self._read("var/lib/dbus/machine-id").strip()
        return text or self.boot_id().replace("-", "")

    @functools.lru_cache(maxsize=1)  # noqa: B019
    def boot_id(self) -> str:
        return self._read("proc/sys/kernel/random/boot_id").strip()

    def pid(self) -> int:
        return os.getpid()

    def open_files(self) -> tuple[int, int]:
        """Since Linux 6.2 it is the size of ``/proc/self/fd``; on older kernels the entries are counted."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        try:
            return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd")), limit
        except OSError:  # no descriptor is left to open the directory
            return limit, limit

    def devices(self) -> Mapping[str, Sequence[Mapping[str, object]]]:
        sys = self._root / "sys"
        return {
            "network": devices.network_cards(sys),
            "storage": devices.disks(sys),
            "gpu": devices.graphics_cards(sys),
            "usb": devices.usb_devices(sys),
            "pci": devices.pci_devices(sys),
            "system": devices.machine(sys),
        }

    @functools.lru_cache(maxsize=1)  # noqa: B019
    def _cpus(self, online: str) -> Sequence[Mapping[str, object]]:
        facts = _cpu_facts(self._read("proc/cpuinfo"))
        return [self._cpu(number, facts.get(number, {})) for number in sorted(parse_cpus(online)) or sorted(facts)]

    @functools.lru_cache(maxsize=1)  # noqa: B019
    def _loadable(self) -> frozenset[str]:
        aliases = self._read(f"lib/modules/{self.kernel().release}/modules.alias")
        return frozenset(re.findall(r"^alias fs-(\S+) ", aliases, re.MULTILINE))

    def _cpu(self, number: int, facts: Mapping[str, str]) -> Mapping[str, object]:
        directory = f"sys/devices/system/cpu/cpu{number}"
        node = next((self._root / directory).glob("node[0-9]*"), None)
        return {
            "id": number,
            "core": _number(self._read(f"{directory}/topology/core_id")),
            "socket": _number(self._read(f"{directory}/topology/physical_package_id")),
            "numa_node": _number(node.name.removeprefix("node")) if node else 0,
            "model": facts.get("model name", ""),
            "vendor": facts.get("vendor_id", ""),
            "frequency": int(float(facts.get("cpu MHz", "0"))),
        }

    def _read(self, file: str) -> str:
        try:
            return (self._root / file).read_text(errors="replace")
        except OSError:
            return ""


def _cpu_facts(text: str) -> dict[int, dict[str, str]]:
    found: dict[int, dict[str, str]] = {}
    for block in text.split("\n\n"):
        rows = (line.partition(":") for line in block.splitlines())
        facts = {name.strip(): value.strip() for name, _, value in rows}
        if facts.get("processor", "").isdigit():
            found[int(facts["processor"])] = facts
    return found


def _number(text: str) -> int:
    """The number in a file; 0 if the file is missing or says -1 (unknown)."""
    text = text.strip()
    return int(text) if text.isdigit() else 0
