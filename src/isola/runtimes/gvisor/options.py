"""The command line of runsc. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from isola.host.process import Place
from isola.model.network import HostNetwork, NetworkNamespace
from isola.runtimes.spec import RunSpec

SYSTRAP, KVM, PTRACE = "systrap", "kvm", "ptrace"
_FIRST_WITH_SYSTRAP = 20230330
_FIRST_WITH_HOST_STACK = 20230801
"""Before, a sandbox with the host's stack has no rights in its user namespace, and ends at once."""

# runsc refuses its own network stack where /proc/sys/net/core/rmem_default exists, which it takes for a sign of the
# host's network. Kernels since 6.8 have that file in every network namespace. A mount on the directory itself is not
# seen there, since it is another one in each namespace. The second proc is for processes in a user namespace, which may
# mount one of their own only if they can see all of another one.
SETS_UP_NETWORK = Place(hides_network_settings=True)
"""Where commands that set up the network stack are started."""
_HIDE = """\
mount -t tmpfs -o size=4k,mode=755 none /proc/sys/net && mkdir /proc/sys/net/whole &&
    mount -t proc -o nosuid,nodev,noexec none /proc/sys/net/whole && exec "$@"\
"""


@dataclass(frozen=True, slots=True)
class Version:
    """Of runsc: the day of its release."""

    day: int = 0

    @classmethod
    def read(cls, text: str) -> Version:
        """From what ``runsc --version`` says: ``runsc version 0.0~20240729.0`` or ``release-20240729.0``."""
        for word in text.split():
            day = word.replace("~", "-").replace("release-", "0-").partition("-")[2].partition(".")[0]
            if len(day) == 8 and day.isdigit():
                return cls(int(day))
        return cls()

    @property
    def has_host_stack(self) -> bool:
        """Whether its sandboxes can have the host's network stack in a user namespace."""
        return self.day >= _FIRST_WITH_HOST_STACK

    @property
    def has_systrap(self) -> bool:
        """Whether it has the platform that needs neither ptrace nor a hypervisor."""
        return self.day >= _FIRST_WITH_SYSTRAP


def options(version: Version, platform: str, *, own_network: bool) -> list[str]:
    """Options of all its commands for an instance."""
    found = [
        f"--platform={platform}",
        f"--network={'sandbox' if own_network else 'host'}",
        "--ignore-cgroups",  # it is in those of the instance already
        "--oci-seccomp",  # a filter in its configuration applies to the programs inside
        "--file-access=shared",  # files are also written by clients, from outside
    ]
    if version.has_systrap:
        # Written files are in the root's volume, and only the gofer has descriptors of files.
        found += ["--overlay2=none", "--directfs=false"]
    return found


def has_own_network(spec: RunSpec) -> bool:
    """Whether its packets pass gVisor's network stack. It takes the addresses of the namespace for itself, so that must
    be the instance's own.
    """
    if isinstance(spec.network, HostNetwork) or spec.host_stack:
        return False
    return not isinstance(spec.network, NetworkNamespace) or spec.network.path.name == spec.id


def with_own_network(argv: Sequence[str]) -> list[str]:
    """The same by a command line, for what the monitor starts."""
    return ["unshare", "--mount", "/bin/sh", "-c", _HIDE, "sh", *argv]


def without_learned_routes(network: Path) -> list[str]:
    """A command line that removes the default routes of IPv6 that routers have announced."""
    return ["nsenter", f"--net={network}", "ip", "-6", "route", "flush", "default", "proto", "ra"]
