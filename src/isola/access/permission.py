"""What a caller needs for a request, and whether it has it."""

from __future__ import annotations

from enum import Enum

from isola.model.caller import Caller


class Permission(Enum):
    """What a caller needs; every route of a door names one."""

    GUEST = "untrusted callers too; the handler limits what they see"
    TRUSTED = "be trusted, whatever its projects; the handler shows what belongs to them"
    VIEW = "see what is in the project"
    OPERATE = "use and steer the project's instances"
    EDIT = "create, change and remove things of the project"
    ADMIN = "see and change the server itself: not for those restricted to projects"

    @property
    def in_project(self) -> bool:
        """Whether it is about the project that a request names."""
        return self in (Permission.VIEW, Permission.OPERATE, Permission.EDIT)

    @property
    def changes(self) -> bool:
        """Whether it is about changing what is in the project."""
        return self in (Permission.OPERATE, Permission.EDIT)


def refusal(caller: Caller, permission: Permission, project: str) -> str:
    """Why the caller may not do what needs the permission in the project; empty where it may.

    Everything about projects that a caller may use is granted to it: within them there are no lesser rights.
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
    """Why the caller may not change what the project shares with ``home``, where it lives; empty where it may."""
    if home == project or caller.may_use(home):
        return ""
    return f"Project {project[:80]!r} shares this with project {home!r}, in which the caller is not allowed"
