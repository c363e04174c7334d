"""What a client is told about a container that it creates: not wrong, but probably not meant."""

from __future__ import annotations

from collections.abc import Iterator

from isola.doors.docker.architectures import platform_of
from isola.doors.docker.request import Request
from isola.doors.http.reading import Fields
from isola.images.architecture import platform
from isola.model.image import Image


def warnings_of(request: Request, fields: Fields, image: Image) -> list[str]:
    """With Docker's texts."""
    host = fields.inside("HostConfig")
    return [*_of_platform(request, image), *_of_ports(host)]


def _of_platform(request: Request, image: Image) -> Iterator[str]:
    own, kernel = platform(image.architecture), request.services.host.system.kernel().architecture
    if request.query.get("platform") or own["architecture"] == platform_of(kernel):
        return
    shown = "/".join(own[part] for part in ("os", "architecture", "variant") if part in own)
    yield (
        f"The requested image's platform ({shown}) does not match the detected host platform "
        f"(linux/{platform_of(kernel)}) and no specific platform was requested"
    )


def _of_ports(host: Fields) -> Iterator[str]:
    if host.text("NetworkMode", "") == "host" and host.inside("PortBindings").names():
        yield "Published ports are discarded when using host network mode"
