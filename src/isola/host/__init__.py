"""The only package that touches Linux. Each file defines one port, a Protocol, and its Linux implementation."""

from __future__ import annotations

TYPE_CHECKING = False  # the confined programs of this package need none of the ports, and must start fast
if TYPE_CHECKING:
    from isola.host.machine import Host as Host


def __getattr__(name: str) -> object:
    """``Host``, which those programs must not load."""
    if name == "Host":
        from isola.host.machine import Host

        return Host
    raise AttributeError(name)
