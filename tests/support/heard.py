"""Accessors for received events."""

from __future__ import annotations

from isola.model.event import Event, Lifecycle
from isola.model.operation import OperationView


def lifecycle(event: Event) -> Lifecycle:
    """The content of an event of that kind."""
    assert isinstance(event.content, Lifecycle)
    return event.content


def operation(event: Event) -> OperationView:
    """The content of an event of that kind."""
    assert isinstance(event.content, OperationView)
    return event.content
