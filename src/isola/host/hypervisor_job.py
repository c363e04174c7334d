"""What the launcher of hypervisors (``hypervisor``) starts. Pure.

In command lines ``@NAME@`` stands for the number of a descriptor. Tuples with names: each start of a guest imports this
in a new process, and dataclasses would bring a third of all that is imported there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

SHARED = "/shared"
"""Where a server sees its directory."""


_NONE: Mapping[str, Any] = MappingProxyType({})


class Server(NamedTuple):
    """A process on which the hypervisor depends."""

    name: str
    """Its PID is written to ``NAME.pid`` in the working directory."""
    directory: str
    """What it sees as ``/shared``."""
    command: tuple[str, ...]
    """``@NAME@`` is its listening socket."""
    wire: str
    """The hypervisor's descriptor that is connected to it."""
    powerful: bool = False
    """Root of the user namespace; otherwise the hypervisor's user, without capabilities."""
    shown: tuple[str, ...] = ()
    """What it alone sees of the host, besides what all see."""


class Job(NamedTuple):
    """What is started. Paths are strings, because it is stored as JSON."""

    ids: tuple[int, int]
    """First host id of the instance's range, and how many."""
    user: int
    """The hypervisor's user, one of the range's ids as seen inside."""
    groups: tuple[str, ...]
    """Directories of the control groups to enter."""
    servers: tuple[Server, ...]
    program: tuple[str, ...]
    """Command line of the hypervisor; ``@output@`` and ``@errors@`` are the log."""
    listen: tuple[str, ...]
    """Sockets on which the hypervisor listens: descriptors and files in the working directory. The first
    is its control socket.
    """
    taps: Mapping[str, str]
    """Descriptor -> name of the tap."""
    shown: tuple[str, ...]
    """Files and directories of the host that all see, read-only."""
    devices: tuple[str, ...] = ()
    """Character devices that the hypervisor may open."""
    opened: Mapping[str, tuple[str, bool]] = _NONE
    """Descriptor -> regular file or block device of the host, and whether it is written to."""
    environment: Mapping[str, str] = _NONE
    """The hypervisor's."""

    def encode(self) -> bytes:
        """As JSON."""
        found = self._asdict() | {"servers": [each._asdict() for each in self.servers]}
        return json.dumps(found, default=dict).encode()

    @classmethod
    def decode(cls, data: bytes) -> Job:
        """Raises ValueError, TypeError."""
        found: Mapping[str, Any] = json.loads(data)
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in found.items()
        }
        values["servers"] = tuple(map(_server, values["servers"]))
        return cls(**values)


def _server(found: Mapping[str, Any]) -> Server:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
    return Server(**values)
