"""Metadata of the image of an instance, and its templates, as clients read and change them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from isola.errors import InvalidInput, NotFound
from isola.instances.context import Context
from isola.instances.describe import describe_change
from isola.instances.fault_repair import repair_fault
from isola.instances.phases import require_kept
from isola.model.image_facts import ImageFacts
from isola.model.instance import Instance
from isola.model.reference import Ref
from isola.model.template import LARGEST_TEXTS, MOST_TEMPLATES, Template
from isola.operations import Operation

Decide = Callable[["Metadata"], "Metadata"]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What LXD keeps in ``metadata.yaml`` and the directory ``templates`` of an instance."""

    facts: ImageFacts
    paths: Mapping[str, Template]
    """Path in the instance -> what is written there; its text is that of the file it names."""
    files: Mapping[str, str]
    """Name -> text, also of files that no path uses."""

    def file(self, name: str) -> str:
        """Raises NotFound."""
        if name not in self.files:
            raise NotFound(f"There is no template {name[:80]!r}", field="path")
        return self.files[name]

    def with_file(self, name: str, text: str) -> Metadata:
        """Add or replace a file. Raises InvalidInput for an impossible name."""
        plain_file(name)
        return replace(self, files={**self.files, name: text})

    def without_file(self, name: str) -> Metadata:
        """Raises NotFound."""
        self.file(name)
        return replace(self, files={each: text for each, text in self.files.items() if each != name})


_LONGEST_NAME = 255
_LARGEST = 256 << 10
"""Bytes of everything but the texts: an instance's record is read and written as a whole."""


def plain_file(name: str, field: str = "path") -> str:
    """The name of a template's file. Raises InvalidInput."""
    if not name or "/" in name or name in {".", ".."} or len(name) > _LONGEST_NAME or not name.isprintable():
        raise InvalidInput(f"Invalid name of a template: {name[:80]!r}", field=field, remedy="use a plain file name")
    return name


def metadata_of(instance: Instance) -> Metadata:
    """Those of its image, or as they were changed."""
    created = int(instance.created_at.timestamp())
    facts = instance.facts or ImageFacts(instance.architecture, created, 0, instance.image_properties)
    templates = instance.start.templates
    return Metadata(
        facts,
        {each.path: each for each in templates if each.path},
        {each.name: each.text for each in templates if each.text is not None},
    )


def with_metadata(instance: Instance, wanted: Metadata) -> Instance:
    """The record with other metadata. Raises InvalidInput if it is too large, or there are too many templates."""
    if (size := _size(wanted)) > _LARGEST and size > _size(metadata_of(instance)):
        raise InvalidInput(f"The metadata has more than {_LARGEST} bytes", field="properties")
    used = {each.name for each in wanted.paths.values()}
    unused = [Template("", (), text, name) for name, text in wanted.files.items() if name not in used]
    found = (*(replace(each, text=wanted.files.get(each.name)) for each in wanted.paths.values()), *unused)
    if len(found) > MOST_TEMPLATES:
        raise InvalidInput(f"There are more than {MOST_TEMPLATES} templates", field="templates")
    if sum(len((each.text or "").encode("utf-8", "replace")) for each in found) > LARGEST_TEXTS:
        raise InvalidInput(f"The templates have more than {LARGEST_TEXTS} bytes", field="templates")
    facts = wanted.facts if wanted.facts != metadata_of(instance).facts else instance.facts
    return replace(instance, facts=facts, start=replace(instance.start, templates=found))


def _size(metadata: Metadata) -> int:
    """Bytes of everything but the texts of templates."""
    templates = metadata.paths.values()
    texts = [metadata.facts.architecture, *(part for each in templates for part in (each.path, each.name, *each.when))]
    for properties in (metadata.facts.properties, *(each.properties for each in templates)):
        texts += [*properties, *properties.values()]
    return sum(len(text.encode("utf-8", "replace")) for text in texts)


def check(context: Context, ref: Ref, decide: Decide) -> Instance:
    """The new record. Raises NotFound, InvalidInput, WrongState, and the errors of ``decide``."""
    instance = context.records.get(ref)
    require_kept(instance)
    return with_metadata(instance, decide(metadata_of(instance)))


async def change(context: Context, op: Operation, ref: Ref, decide: Decide) -> None:
    """Takes effect when templates are applied next, also if it runs."""
    check(context, ref, decide)
    await repair_fault(context, op, ref)
    held = context.records.read(ref)
    changed = check(context, ref, decide)
    await describe_change(context, op, held.value, changed)
    await op.commit(lambda: context.records.replace(ref, changed, at=held.revision))
