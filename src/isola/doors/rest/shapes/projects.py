"""Projects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from isola.model.project import Project


def project_json(project: Project, used_by: Sequence[str]) -> dict[str, object]:
    return {"name": project.name, "used_by": list(used_by), **writable(project)}


def writable(project: Project) -> dict[str, object]:
    """The fields that PUT replaces; the entity tag is computed of them."""
    return {"config": dict(project.config), "description": project.description}


def usage_json(usage: Mapping[str, tuple[int, int]]) -> dict[str, object]:
    """Usage of a project. LXD capitalizes these two fields."""
    return {"resources": {name: {"Limit": most, "Usage": there} for name, (most, there) in usage.items()}}
