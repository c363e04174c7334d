"""What is counted over all images: the containers that use each, and the bytes that it shares with others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from isola.doors.docker.request import Request
from isola.model.image import Image
from isola.model.reference import Kind


def shared_sizes(images: Sequence[Image]) -> Mapping[str, int]:
    """By fingerprint the bytes of the layers that at least one other image has, too."""
    own = {image.fingerprint: {layer.digest: layer.size for layer in image.layers} for image in images}
    having = Counter(digest for layers in own.values() for digest in layers)
    return {
        fingerprint: sum(size for digest, size in layers.items() if having[digest] > 1)
        for fingerprint, layers in own.items()
    }


def containers_by_image(request: Request) -> Mapping[str, Sequence[str]]:
    """By fingerprint the ids of the instances that are made of the image, in one pass."""
    home, found = request.home(Kind.IMAGE), dict[str, list[str]]()
    for each in request.services.instances:
        if each.image and request.services.projects.home(each.project, Kind.IMAGE) == home:
            found.setdefault(each.image, []).append(each.id)
    return found
