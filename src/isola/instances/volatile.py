"""Names of the facts that the daemon keeps in a record beside what a user configures (``volatile.*``)."""

from __future__ import annotations

LAST_BOOT = "last_state.boot"
"""The boot of the host in which the instance was last made or started."""
CPUS = "last_state.cpus"
"""The CPUs it was bound to when it was started last."""
RESTARTING = "last_state.restarting"
"""How many reboots in quick succession there have been, while it waits for its next start."""
CHANGING = "last_state.changing"
"""Which part of a running instance is between two configurations: NICS with the names of those that come, or LIMITS."""
ROOT_SIZE = "root.size"
"""Bytes that its root may take, where that is limited: as its pool has been told."""
RESTORING = "last_state.restoring"
"""Id of the snapshot that its root is about to become, while that is done."""
DEVICES, LIMITS = "devices", "limits"
