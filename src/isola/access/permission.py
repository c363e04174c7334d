"""The permissions that requests require, and the check whether a caller has them."""

from __future__ import annotations

from enum import Enum

from isola.model.caller import Caller


class Permission(Enum):
    """The permission that a request requires; every route of a door names one."""

    GUEST = "untrusted callers too; the handler limits what they see"
    TRUSTED = "be trusted, whatever its projects; the handler shows what belongs to them"
    VIEW = "see what is in the project"
    OPERATE = "use and steer the project's instances"
    EDIT = "create, change and remove things of the project"
    ADMIN = "see and change the server itself: not for those restricted to projects"

    @property
    def in_project(self) -> bool:
        """Whether it applies to the project that a request names."""
        return self in (Permission.VIEW, Permission.OPERATE, Permission.EDIT)

    @property
    def changes(self) -> bool:
        """Whether it permits changes in the project."""
        return self in (Permission.OPERATE, Permission.EDIT)


def refusal(caller: Caller, permission: Permission, project: str) -> str:
    """Why the caller does not have the permission in the project; empty if it has.

    A caller has all permissions in the projects that it may use: there are no finer ones yet.
    """
    if permission is Permission.GUEST:
        return ""
    if not caller.trusted:
        return "Only trusted callers may do this"
    if permission is Permission.ADMIN and not caller.admin:
        return "Only callers that are not restricted to projects may do this"
    if permission.in_project and not caller.may_use(project):
        return f"The caller is not allowed in project {project[:80]!r}"
    return ""


def refusal_of_shared(caller: Caller, project: str, home: str) -> str:
    """Why the caller may not change a resource in project ``home`` which ``project`` shares; empty if it may."""
    if home == project or caller.may_use(home):
        return ""
    return f"Project {project[:80]!r} shares this with project {home!r}, in which the caller is not allowed"
