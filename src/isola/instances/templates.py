"""Templates of images as in LXD: files that are written into the root of each instance before its program starts.

Neither templates nor the root are trusted: a template that is more than text and the instance's name is rendered in a
confined process, and every path is resolved inside the root. If one cannot be rendered or written, its file is not
changed, a warning is logged, and the instance starts.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from isola.errors import IsolaError, NotFound
from isola.host.files import Root
from isola.host.templates import Job, Rendered, Value
from isola.instances.context import Context
from isola.instances.settings import HOSTNAME
from isola.model.instance import Config, Devices, Instance
from isola.model.template import Template

log = logging.getLogger(__name__)
PENDING = "apply_template"
"""Key in the record between a creation or rename and the next start: ``create``, ``copy`` or ``rename``."""
OLD_NAME = "last_state.name"
"""With ``rename``: the name of the instance in its last run."""
OLD_HOSTNAME = "last_state.hostname"
"""The configured host name at its last start."""
_HOSTNAME = "/etc/hostname"
_NAME = re.compile(r"\{\{\s*(?:container|instance)\.name\s*\}\}")
_TAGS = ("{{", "{%", "{#")


def renamed(volatile: Config, old: str) -> dict[str, str]:
    """``volatile`` after a rename; earlier pending templates are kept."""
    return dict(volatile) if PENDING in volatile else {**volatile, PENDING: "rename", OLD_NAME: old}


def applied(volatile: Config, hostname: str) -> dict[str, str]:
    """``volatile`` after templates were applied. ``hostname``: the configured host name, or an empty string."""
    kept = {key: value for key, value in volatile.items() if key not in (PENDING, OLD_NAME, OLD_HOSTNAME)}
    return kept | ({OLD_HOSTNAME: hostname} if hostname else {})


async def apply(context: Context, instance: Instance, place: Path, config: Config, devices: Devices) -> None:
    """Write the templates that apply to this start into the root at ``place``."""
    pending, templates = instance.volatile.get(PENDING, ""), instance.start.templates
    due = [(each, trigger) for trigger in (pending, "start") for each in templates if trigger in each.when]
    for each in {each.name for each, _ in due if each.text is None}:
        log.warning("Instance %s has no template %.80r, which its metadata names", instance.name, each)
    due = [(each, trigger) for each, trigger in due if each.text is not None]
    wanted, before = config.get(HOSTNAME, ""), instance.volatile.get(OLD_HOSTNAME, "")
    naming = (bool(pending) or wanted != before) and instance.start.system
    if not due and not naming:
        return
    async with context.host.files.root(place, idmap=instance.idmap) as root:
        due = [(each, trigger) for each, trigger in due if not each.create_only or await _absent(root, each.path)]
        found = await _rendered(context, instance, due, _values(instance, config, devices))
        written = {
            _inside(template.path)
            for (template, _), one in zip(due, found, strict=True)
            if await _write(root, instance, template.path, one)
        }
        if naming and (wanted or _HOSTNAME not in written):
            # A name that a user wrote is kept, unless a host name is configured.
            previous = None if wanted else before or instance.volatile.get(OLD_NAME)
            await _name(root, instance, wanted or instance.called, instead_of=previous)


def plain(text: str, name: str) -> str | None:
    """The result of a template that contains only text and the instance's name, as most do; None for others."""
    found = _NAME.sub(name, text)
    return None if any(tag in found for tag in _TAGS) else found


async def _rendered(
    context: Context, instance: Instance, due: Sequence[tuple[Template, str]], values: Mapping[str, Value]
) -> list[Rendered]:
    """Render all in order. A process is started only if one is needed."""
    texts = [plain(template.text or "", instance.called) for template, _ in due]
    jobs = [
        Job(template.text or "", {"path": template.path, "trigger": trigger, "properties": template.properties})
        for (template, trigger), text in zip(due, texts, strict=True)
        if text is None
    ]
    found: Sequence[Rendered] = ()
    if jobs:
        try:
            found = await context.host.templates.render(jobs, values)
        except IsolaError as error:
            found = [Rendered(error=f"{error.message} {error.evidence}")] * len(jobs)
    rest = iter(found)
    return [next(rest) if text is None else Rendered(text) for text in texts]


def _values(instance: Instance, config: Config, devices: Devices) -> dict[str, Value]:
    """The variables that LXD passes to templates."""
    described: dict[str, Value] = {
        "name": instance.called,
        "type": instance.type,
        "architecture": instance.architecture,
        "privileged": "false",
        "ephemeral": str(instance.ephemeral).lower(),
    }
    properties = {f"image.{key}": value for key, value in instance.image_properties.items()}
    return {"container": described, "instance": described, "config": {**properties, **config}, "devices": dict(devices)}


def _inside(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))


async def _absent(root: Root, path: str) -> bool:
    try:
        await root.stat(_inside(path))
    except NotFound:
        return True
    except IsolaError:  # writing it reports the reason
        return True
    return False


async def _write(root: Root, instance: Instance, path: str, rendered: Rendered) -> bool:
    """A new file belongs to root; an existing one keeps its owner and mode."""
    if rendered.error:
        log.warning("Template %.200r of instance %s is not applied: %.500s", path, instance.name, rendered.error)
        return False
    try:
        try:
            await _put(root, _inside(path), rendered.text)
        except NotFound:
            for parent in _parents(_inside(path)):
                await root.make_directory(parent, uid=0, gid=0, mode=0o755)
            await _put(root, _inside(path), rendered.text)
    except IsolaError as error:
        log.warning("Template %.200r of instance %s cannot be written: %s", path, instance.name, error)
        return False
    return True


def _parents(path: str) -> list[str]:
    parts = path.split("/")[1:-1]
    return ["/" + "/".join(parts[: count + 1]) for count in range(len(parts))]


async def _put(root: Root, path: str, text: str) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield text.encode("utf-8", "replace")

    await root.write(path, content(), uid=-1, gid=-1, mode=None)


async def _name(root: Root, instance: Instance, wanted: str, *, instead_of: str | None) -> None:
    """Write the instance's name to an existing ``/etc/hostname``, which systems read at boot, if it has the old name.

    ``instead_of`` None: replace any content, such as that of the image.
    """
    try:
        beginning = await anext(await root.read(_HOSTNAME), b"")  # only the first block, since the file may be large
        lines = beginning.decode("utf-8", "replace").splitlines()
        current = next((line.strip() for line in lines if line.strip() and not line.startswith("#")), "")
        if current in ("", wanted) or instead_of not in (None, current):
            return
        await _put(root, _HOSTNAME, f"{wanted}\n")
    except NotFound:
        return
    except IsolaError as error:
        log.warning("/etc/hostname of instance %s stays as it is: %s", instance.name, error)
