"""The Docker Engine API."""

from isola.doors.docker.dispatch import Dispatcher

__all__ = ["Dispatcher"]
