"""Long work: progress, cancel, rollback, history."""

from isola.operations.operation import Observer, Operation, Step
from isola.operations.operations import Operations
from isola.operations.verbs import alone

__all__ = ["Observer", "Operation", "Operations", "Step", "alone"]
