"""Projects: what is apart from what, and which project a thing lives in."""

from isola.projects.projects import Projects

__all__ = ["Projects"]
