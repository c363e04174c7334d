"""Build arguments that say how the builder works, as BuildKit names them. Pure."""

from __future__ import annotations

from dataclasses import replace

from isola.instances.settings import HOSTNAME
from isola.model.build import BuildRequest

OPTIONS = "BUILDKIT_"
"""What their names begin with; no Dockerfile has to declare them."""
CHECKS = "BUILDKIT_DOCKERFILE_CHECK"
"""In place of the directive ``# check=``."""
_HOSTNAME = "BUILDKIT_SANDBOX_HOSTNAME"


def with_hostname(request: BuildRequest) -> BuildRequest:
    """That of the containers in which programs run."""
    name = request.arguments.get(_HOSTNAME)
    return replace(request, config={HOSTNAME: name, **request.config}) if name else request
