"""Long work: progress, cancel, rollback, history."""

from isola.operations.operation import Observer, Operation, Step
from isola.operations.operations import Operations

__all__ = ["Observer", "Operation", "Operations", "Step"]
