"""Projects: separation of resources, the project to which a resource belongs, and limits and restrictions."""

from isola.projects.guard import Guard
from isola.projects.projects import Projects
from isola.projects.settings import SETTINGS

__all__ = ["SETTINGS", "Guard", "Projects"]
