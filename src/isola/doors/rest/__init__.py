"""The Incus/LXD REST API 1.0."""

from isola.doors.rest.dispatch import Dispatcher

__all__ = ["Dispatcher"]
