"""Operations."""

from __future__ import annotations

from isola.doors.rest.addresses import resources
from isola.doors.rest.shapes.times import moment
from isola.errors import IsolaError
from isola.model.operation import OperationView, StepView
from isola.model.units import format_size


def operation_json(view: OperationView) -> dict[str, object]:
    """An operation as the API documents it, with our ``progress`` and ``error`` in its metadata."""
    metadata = dict(view.metadata)
    if view.steps:
        metadata["progress"] = [step_json(step) for step in view.steps]
        metadata |= _progress_text(view.steps, view.status.final)
    # An operation that rolls back still runs; clients take one with an error for ended.
    if view.status.final and view.problem is not None:
        metadata["error"] = _error(view.problem)
    return {
        "id": view.id,
        "class": view.kind,
        "description": view.description,
        "created_at": moment(view.created_at),
        "updated_at": moment(view.updated_at),
        "status": view.status.value,
        "status_code": view.status.code,
        "resources": resources(view.resources) or None,
        "metadata": metadata or None,
        "may_cancel": view.may_cancel,
        "err": view.error if view.status.final else "",
        "location": "none",
    }


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
    """The text that LXD's clients show while they wait: they look for a key that ends in ``_progress``."""
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
