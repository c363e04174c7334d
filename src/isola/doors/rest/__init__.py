"""The Incus/LXD REST API 1.0."""

from isola.doors.rest.server import Door, serve

__all__ = ["Door", "serve"]
