"""Operations."""

from __future__ import annotations

import asyncio

from isola.doors.rest.shapes.times import moment
from isola.errors import IsolaError
from isola.model.operation import OperationView, StepView
from isola.model.units import format_size
from isola.operations import Operation


def operation_json(operation: Operation) -> dict[str, object]:
    """An operation as the API documents it, with our ``progress`` and ``error`` in its metadata."""
    view = operation.view()
    metadata = dict(view.metadata)
    if view.steps:
        metadata["progress"] = [step_json(step) for step in view.steps]
        metadata |= _progress_text(view.steps, view.status.final)
    # While it is undone it still runs, and clients take what has an error for ended.
    error = operation.error if view.status.final else None
    if isinstance(error, IsolaError):
        metadata["error"] = _error(error)
    return {
        "id": view.id,
        "class": view.kind,
        "description": view.description,
        "created_at": moment(view.created_at),
        "updated_at": moment(view.updated_at),
        "status": view.status.value,
        "status_code": view.status.code,
        "resources": _resources(view) or None,
        "metadata": metadata or None,
        "may_cancel": view.may_cancel,
        "err": _text(error, view.description),
        "location": "none",
    }


def _text(error: BaseException | None, description: str) -> str:
    """Why it failed; what was not foreseen is told to the daemon's log alone."""
    if error is None or isinstance(error, IsolaError):
        return "" if error is None else str(error)
    if isinstance(error, asyncio.CancelledError):
        return "Cancelled"
    return f"Internal error; the daemon's log says more about {description!r}"


def _resources(view: OperationView) -> dict[str, list[str]]:
    """Instances under their older name too, as LXD has it."""
    resources = {noun: list(paths) for noun, paths in view.resources.items()}
    if "instances" in resources:
        resources["containers"] = resources["instances"]
    return resources


def step_json(step: StepView) -> dict[str, object]:
    """Progress of one step."""
    return {
        "name": step.name,
        "done": step.done,
        "total": step.total,
        "unit": step.unit,
        "finished": step.finished,
        "depth": step.depth,
    }


def _progress_text(steps: tuple[StepView, ...], ended: bool) -> dict[str, str]:
    """What LXD clients show while they wait: any key that ends in ``_progress``."""
    open_steps = [step for step in steps if not step.finished]
    if ended or not open_steps:
        return {}
    step = open_steps[-1]
    text = step.name
    if step.total:
        text += f": {min(100, step.done * 100 // step.total)}%"
    elif step.done:
        text += f": {format_size(step.done) if step.unit == 'bytes' else step.done}"
    return {"create_progress": text}


def _error(error: IsolaError) -> dict[str, object]:
    return {
        "code": error.code,
        "message": error.message,
        "field": error.field,
        "remedy": error.remedy,
        "evidence": error.evidence,
    }
