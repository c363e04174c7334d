"""Projects: what is apart from what, which project a thing lives in, and what a project may have."""

from isola.projects.guard import Guard
from isola.projects.projects import Projects
from isola.projects.settings import SETTINGS

__all__ = ["SETTINGS", "Guard", "Projects"]
