"""Profiles: configuration and devices shared by instances."""

from isola.profiles.profiles import Profiles

__all__ = ["Profiles"]
