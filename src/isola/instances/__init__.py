"""Use cases that combine several nouns: one file per verb."""

from isola.instances.instances import Instances

__all__ = ["Instances"]
