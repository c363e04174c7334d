"""Values of a service that contradict each other. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from isola.compose.limits import limits
from isola.errors import InvalidInput

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,200}", re.ASCII)


def require_consistent(name: str, service: Mapping[str, Any]) -> None:
    """Raises InvalidInput for the first contradiction."""
    where = f"services.{name}"
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"Invalid name of a service {name[:80]!r}", field="services", remedy="use letters, digits, '.', '_' and '-'"
        )
    limits(dict(service), where)
    replicas = service.get("deploy", {}).get("replicas")
    if None not in (replicas, service.get("scale")) and replicas != service["scale"]:
        raise InvalidInput(f"{where} has different values of scale and deploy.replicas", field=f"{where}.scale")
    targets = [mount["target"] for mount in service.get("volumes", ())]
    targets += [text.partition(":")[0] for text in service.get("tmpfs", ())]
    seen: set[str] = set()
    for target in (each.rstrip("/") or "/" for each in targets):
        if target in seen:
            raise InvalidInput(f"{where} has two mounts at {target[:200]}", field=f"{where}.volumes")
        seen.add(target)
