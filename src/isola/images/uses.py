"""References of an image, computed from its record, and to it. Pure."""

from __future__ import annotations

from isola.errors import InUse
from isola.model.image import Image, layer_keys, layers_entity
from isola.model.project import project_entity
from isola.model.reference import Entity
from isola.model.references import users_text
from isola.state.references import References, Used


def uses(image: Image) -> Used:
    """The image's project."""
    return frozenset({project_entity(image.project)})


def mentions(image: Image) -> Used:
    """The image's layers, which pools may have unpacked."""
    return layers_entity(layer_keys(image.layers))


def mounted_by(references: References, image: Entity) -> list[Entity]:
    """Instances and snapshots with disks that have its content; roots that are made of it do not count."""
    return [each for each in references.users(image) if image in references.uses(each)]


def refuse_if_mounted(references: References, image: Image) -> None:
    """Raises InUse."""
    if users := mounted_by(references, image.entity):
        raise InUse(
            f"Disks have the content of image {image.fingerprint[:12]}",
            evidence=f"of {users_text(users)}",
            remedy="remove these devices or snapshots first",
        )
