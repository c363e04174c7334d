"""What an image uses, by its record alone. Pure."""

from __future__ import annotations

from isola.model.image import Image, layer_keys, layers_entity
from isola.model.project import project_entity
from isola.state.references import Used


def uses(image: Image) -> Used:
    """Its project."""
    return frozenset({project_entity(image.project)})


def mentions(image: Image) -> Used:
    """The layers that pools have unpacked of it, or will."""
    return layers_entity(layer_keys(image.layers))
