"""Labels and options of volumes as keys of custom volumes, and back."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

import orjson

from isola.doors import Services
from isola.errors import InvalidInput
from isola.model.volume import VolumeRecord
from isola.storage.volume_mounts import MEMORY, OPTIONS, SOURCE, mount_of

ANONYMOUS = "user.com.docker.volume.anonymous"
"""The label of volumes that a container has created for itself; Docker gives it no value."""
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,}", re.ASCII)
_LABELS = "user."
_BARE = "user.docker.bare"
"""JSON list of the labels without a value: keys without a value count as absent."""
_KNOWN = ("type", "o", "device", "size")


def check_name(name: str) -> None:
    """Raises InvalidInput."""
    if len(name) == 1:
        raise InvalidInput(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f'create {name[:200]}: "{name[:200]}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


def mount_point(services: Services, record: VolumeRecord) -> str:
    """Where its content is on the host."""
    return str(services.pools.driver(record.pool).place / record.kind / record.id / "data")


def label_keys(labels: Mapping[str, str]) -> dict[str, str]:
    """Keys ``user.*``; labels without a value are in one key together."""
    keys = {f"{_LABELS}{name}": value for name, value in labels.items() if value}
    bare = [name for name, value in labels.items() if not value]
    return keys | ({_BARE: orjson.dumps(bare).decode()} if bare else {})


def labels_of(config: Mapping[str, str]) -> dict[str, str]:
    """Keys ``user.*``, and the labels without a value."""
    found = {key.removeprefix(_LABELS): value for key, value in config.items() if key.startswith(_LABELS)}
    found.pop(_BARE.removeprefix(_LABELS), None)
    own = ANONYMOUS.removeprefix(_LABELS)
    return dict(sorted((dict.fromkeys(_bare(config), "") | found | ({own: ""} if own in found else {})).items()))


def _bare(config: Mapping[str, str]) -> list[str]:
    """Users may have written anything there."""
    try:
        found = orjson.loads(config.get(_BARE) or "[]")
    except orjson.JSONDecodeError:
        return []
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def mount_keys(name: str, options: Mapping[str, str]) -> dict[str, str]:
    """Of the driver's options ``type``, ``o`` and ``device``. Raises InvalidInput with Docker's texts."""

    def wrong(text: str, remedy: str = "") -> InvalidInput:
        return InvalidInput(f"create {name[:80]}: {text}", field="DriverOpts", remedy=remedy)

    given = {key: value for key, value in options.items() if value}
    for option in given:
        if option not in _KNOWN:
            raise wrong(f'invalid option: "{option[:80]}"')
    if not given:
        return {}
    if "size" in given:
        raise wrong("quota size requested but no quota support", "use type=tmpfs with o=size=..., or set size later")
    kind, device, flags = given.get("type", ""), given.get("device", ""), given.get("o", "")
    if not device:
        raise wrong('missing required option: "device"')
    if not kind:
        raise wrong('missing required option: "type"')
    if kind == "tmpfs":
        source = MEMORY
    elif {"bind", "rbind"} & {each.strip() for each in flags.split(",")}:
        source = posixpath.normpath(device)
    else:
        raise wrong(
            f"file systems of type {kind[:40]!r} are not mounted for volumes",
            "mount it on the host, and use type=none with o=bind",
        )
    keys = {SOURCE: source, OPTIONS: flags}
    try:
        mount_of(keys)
    except ValueError as error:
        raise wrong(f"invalid mount: {error}") from None
    return {key: value for key, value in keys.items() if value}


def mount_options(config: Mapping[str, str]) -> dict[str, str]:
    """The same back, as clients are shown them; empty for an ordinary volume."""
    if not (source := config.get(SOURCE, "")):
        return {}
    flags = config.get(OPTIONS, "")
    if source == MEMORY:
        return {"device": "tmpfs", "type": "tmpfs", **({"o": flags} if flags else {})}
    bound = {"bind", "rbind"} & {each.strip() for each in flags.split(",")}
    return {"device": source, "o": flags if bound else ",".join(filter(None, ("bind", flags))), "type": "none"}
