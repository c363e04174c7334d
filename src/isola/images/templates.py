"""Templates of an image: listed in ``metadata.yaml``, with their texts in the same tarball."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from isola.errors import InvalidInput, TooLarge
from isola.host.archive.archives import Archives
from isola.images.metadata import Metadata
from isola.model.template import LARGEST_TEXTS, MOST_TEMPLATES, Template

log = logging.getLogger(__name__)
_DIRECTORY = "templates/"


async def read_templates(archives: Archives, tarball: Path, metadata: Metadata) -> tuple[Template, ...]:
    """The templates of an image; the tarball is only read if the metadata lists some. Raises InvalidInput."""
    names = tuple(dict.fromkeys(f"{_DIRECTORY}{each['template']}" for each in metadata.templates.values()))
    if not names:
        return ()
    if len(metadata.templates) > MOST_TEMPLATES:
        raise InvalidInput(f"metadata.yaml: templates has more than {MOST_TEMPLATES} entries", field="templates")
    try:
        texts = await archives.read_members(tarball, names, limit=LARGEST_TEXTS)
    except TooLarge as error:
        raise InvalidInput(
            f"The templates have more than {LARGEST_TEXTS} bytes", evidence=error.message, field="templates"
        ) from error
    found = {name.removeprefix(_DIRECTORY): data.decode("utf-8", "replace") for name, data in texts.items()}
    return templates_of(metadata, found)


def templates_of(metadata: Metadata, texts: Mapping[str, str]) -> tuple[Template, ...]:
    """The metadata's templates with their ``texts``; those without a text are skipped."""
    found = []
    for path, each in metadata.templates.items():
        if (text := texts.get(each["template"])) is None:
            log.warning("An image lists the template %.80r but does not contain it", each["template"])
            continue
        when, properties = each.get("when"), each.get("properties")
        found.append(
            Template(
                path=path,
                when=tuple(map(str, when)) if isinstance(when, list | tuple) else (),
                text=text,
                name=each["template"],
                create_only=str(each.get("create_only")).lower() == "true",
                properties={key: str(value) for key, value in properties.items()}
                if isinstance(properties, dict)
                else {},
            )
        )
    return tuple(found)
