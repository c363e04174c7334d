"""Long work: progress, cancel, rollback, history."""

from isola.operations.operation import Channel, Observer, Operation, Step
from isola.operations.operations import Operations

__all__ = ["Channel", "Observer", "Operation", "Operations", "Step"]
