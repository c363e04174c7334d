"""The OCI distribution API 1.1: the content store as a registry."""

from isola.doors.registry.dispatch import Dispatcher

__all__ = ["Dispatcher"]
