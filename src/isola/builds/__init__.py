"""Images from Dockerfiles: parsing and planning are pure, each step runs like an instance does."""

from isola.builds.agents import Agents
from isola.builds.builds import Builds
from isola.builds.cache import Cache
from isola.builds.parts import Parts

__all__ = ["Agents", "Builds", "Cache", "Parts"]
