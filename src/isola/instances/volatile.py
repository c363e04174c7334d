"""Names of the facts that the daemon keeps in a record beside what a user configures (``volatile.*``)."""

from __future__ import annotations

from collections.abc import Mapping

from isola.model.instance import Desired, Instance

LAST_BOOT = "last_state.boot"
"""The boot of the host in which the instance was last made or started."""
GENERATION = "uuid.generation"
"""A new id whenever its root is set back to an earlier one, for programs that must not repeat what they did since."""
START_TIME = "last_state.start_ms"
"""How many milliseconds its last start took from its engine or monitor to its program, with the devices in between."""
CPUS = "last_state.cpus"
"""The CPUs it was bound to when it was started last."""
RESTARTING = "last_state.restarting"
"""How many reboots in quick succession there have been, while it waits for its next start."""
CHANGING = "last_state.changing"
"""Which part of a running instance is between two configurations: DEVICES or LIMITS."""
ROOT_SIZE = "root.size"
"""Bytes that its root may take, where that is limited: as its pool was asked to."""
RESTORING = "last_state.restoring"
"""Id of the snapshot that its root is about to become, while that is done."""
RESTORING_MEMORY = "last_state.restoring_memory"
"""With RESTORING: the same id, if its next start is to continue from what that snapshot has of its memory."""
DEVICES, LIMITS = "devices", "limits"
"""Values of CHANGING."""
ROLE = "deploy.role"
"""Of a version that does not serve: NEXT while it is tried out; RETIRING until it is stopped, then PREVIOUS."""
SERVES = "deploy.name"
"""With ROLE: the name under which it is to serve, or has served; it calls itself so."""
HELD = "deploy.held"
"""With ROLE: names of devices, by commas, that it has in its configuration alone, because the version that serves has
them.
"""
PREVIOUS_ID = "deploy.previous"
"""Of a version that serves: the id of the one before it."""
DEPLOYED_AT = "deploy.at"
"""Of a version that serves: when it was deployed; the same for all that were deployed together."""
HISTORY = "deploy.history"
"""Of a version that serves: those before it, newest first: ``TIME=FINGERPRINT,...``."""
NEXT, RETIRING, PREVIOUS = "next", "retiring", "previous"


_KEPT = ("volatile.", "image.")


def own_keys(config: Mapping[str, str]) -> dict[str, str]:
    """What a user configures, without what ``kept_keys`` shows beside it, which clients send back."""
    return {key: value for key, value in config.items() if not key.startswith(_KEPT)}


def kept_keys(instance: Instance) -> dict[str, str]:
    """What is shown with the configuration: ``image.*`` and ``volatile.*``."""
    kept = {f"image.{key}": value for key, value in instance.image_properties.items()}
    kept |= {f"volatile.{key}": value for key, value in instance.volatile.items()}
    for name, state in instance.plugged.items():
        # A name is shown where it was chosen, not where it is configured, as clients expect it.
        shown = {fact: value for fact, value in state.facts.items() if fact != "name" or not state.config.get("name")}
        kept |= {f"volatile.{name}.{fact}": value for fact, value in shown.items()}
    kept["volatile.last_state.power"] = "RUNNING" if instance.desired is Desired.RUNNING else "STOPPED"
    return kept
