"""Images of the versions before the one that serves: which they are, and which are removed."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from isola.errors import IsolaError
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.deploy.parts import Attempt
from isola.instances.deploy_settings import IMAGES
from isola.instances.volatile import DEPLOYED_AT, HISTORY
from isola.model.instance import Instance
from isola.model.reference import Kind

_USUAL = 5
_NAMED = re.compile(r"[^:]+:[0-9]{8}-[0-9]{6}", re.ASCII)
"""The name that ``isola deploy`` gives an image: those with another one, too, are never removed."""
log = logging.getLogger(__name__)


def before(context: Context, old: Instance, new: Instance) -> str:
    """What the record of the new version says of those before it, newest first: ``TIME=FINGERPRINT,...``."""
    kept = int(expanded(context, new)[0].get(IMAGES) or _USUAL)
    found = [each for each in _whole(old) if each.partition("=")[2] != new.image]
    return ",".join(found[:kept])


def _whole(instance: Instance) -> list[str]:
    """Itself, and those before it."""
    own = f"{instance.volatile.get(DEPLOYED_AT, '')}={instance.image}"
    found = [own, *filter(None, instance.volatile.get(HISTORY, "").split(","))]
    seen: dict[str, str] = {}
    for each in found:
        seen.setdefault(each.partition("=")[2], each)
    return list(seen.values())


async def prune(attempt: Attempt, old: Instance) -> None:
    """Remove images that were built for deployments of this instance, and are not kept any more."""
    context, new = attempt.context, attempt.serving()
    kept = {each.partition("=")[2] for each in _whole(new)}
    dropped = [each.partition("=")[2] for each in _whole(old)]
    for fingerprint in [each for each in dropped if each and each not in kept]:
        if _removable(context, new.project, fingerprint):
            try:
                ref = context.scoped(new.project, Kind.IMAGE, fingerprint)
                operation = context.images.start_delete(ref, caller=attempt.op.caller)
                await operation.wait()
                await context.operations.finish(operation)
            except IsolaError as error:
                log.warning("The image %s of a former version could not be removed: %s", fingerprint[:12], error)


def _removable(context: Context, project: str, fingerprint: str) -> bool:
    if any(each.image == fingerprint for each in context.records):
        return False
    image = context.images.resolve(context.scoped(project, Kind.IMAGE, fingerprint))
    names: Sequence[str] = [alias.name for alias in context.images.names_of(image)] if image is not None else ()
    return bool(names) and all(_NAMED.fullmatch(name.rpartition("/")[2]) for name in names)
