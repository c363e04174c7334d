"""Warnings about a container that a client creates: not wrong, but probably not meant."""

from __future__ import annotations

from collections.abc import Iterator

from isola.doors.docker.architectures import platform_of
from isola.doors.docker.request import Request
from isola.doors.docker.versions import Version
from isola.doors.http.reading import Fields
from isola.images.architecture import platform
from isola.model.image import Image

_OF_ENDPOINTS: Version = (1, 44)
"""Since then an endpoint may have an address of hardware."""
_TOLD: Version = (1, 48)


def warnings_of(request: Request, fields: Fields, image: Image) -> list[str]:
    """With Docker's texts."""
    host = fields.inside("HostConfig")
    return [
        *_of_images(host),
        *_of_memory(host),
        *_of_volumes(request, host),
        *_of_address(request, fields),
        *_of_platform(request, image),
        *_of_ports(host),
    ]


def _of_memory(host: Fields) -> Iterator[str]:
    if host.boolean("OomKillDisable") and not host.whole("Memory", 0, minimum=-1, maximum=2**63 - 1):
        yield (
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system "
            "running out of resources."
        )


def _of_volumes(request: Request, host: Fields) -> Iterator[str]:
    named = [each.inside("VolumeOptions").inside("DriverConfig") for each in _volumes(host)]
    if request.version >= _TOLD and host.text("VolumeDriver", "") and not all(each.text("Name", "") for each in named):
        yield (
            "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use "
            "'--mount type=volume,volume-driver=...' instead"
        )


def _of_images(host: Fields) -> Iterator[str]:
    for each in host.objects("Mounts"):
        if each.text("Type", "") == "image":
            yield "Image mount is an experimental feature"


def _volumes(host: Fields) -> list[Fields]:
    return [each for each in host.objects("Mounts") if each.text("Type", "") == "volume"]


def _of_address(request: Request, fields: Fields) -> Iterator[str]:
    if request.version >= _OF_ENDPOINTS and fields.text("MacAddress", ""):
        yield (
            "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
        )


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
