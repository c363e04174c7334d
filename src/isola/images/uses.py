"""References of an image, computed from its record. Pure."""

from __future__ import annotations

from isola.model.image import Image, layer_keys, layers_entity
from isola.model.project import project_entity
from isola.state.references import Used


def uses(image: Image) -> Used:
    """The image's project."""
    return frozenset({project_entity(image.project)})


def mentions(image: Image) -> Used:
    """The image's layers, which pools may have unpacked."""
    return layers_entity(layer_keys(image.layers))
