"""Documentation of configuration keys, from the tables that validate them."""

from __future__ import annotations

from functools import cache

from aiohttp import web

from isola import registry
from isola.devices import kinds, settings_of
from isola.doors.rest.answers import sync
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.instances.settings import SETTINGS as INSTANCE_KEYS
from isola.projects import SETTINGS as PROJECT_KEYS
from isola.server import SETTINGS as SERVER_KEYS
from isola.settings import Settings
from isola.storage.volume_settings import SETTINGS as VOLUME_KEYS

_KINDS = ("network", "storage")


async def get(request: Request) -> web.StreamResponse:
    """All configuration keys by noun and group."""
    return sync(_document())


@cache
def _document() -> dict[str, object]:
    """Incus' shape: noun -> group -> ``keys``, a list of maps with one key each."""
    tables: dict[str, Settings] = {
        "instance": INSTANCE_KEYS,
        "project": PROJECT_KEYS,
        "server": SERVER_KEYS,
        "volume": VOLUME_KEYS,
    }
    for kind in _KINDS:
        tables |= {f"{kind}_{name}": registry.load(kind, name).settings for name in registry.names(kind)}
    tables |= {f"devices_{kind}": settings_of(kind) for kind in kinds()}
    return {"configs": {noun: _groups(table) for noun, table in tables.items()}}


def _groups(table: Settings) -> dict[str, dict[str, list[object]]]:
    groups: dict[str, dict[str, list[object]]] = {}
    for row in table:
        about = {
            "shortdesc": row.help,
            "longdesc": "",
            "type": "string",
            "defaultdesc": row.default or "",
            "liveupdate": "yes" if row.live else "no",
            "expects": row.expected,
        }
        group = groups.setdefault(row.key.partition(".")[0], {"keys": []})
        group["keys"].append({row.key: about})
    return groups


ROUTES = (("GET", "/1.0/metadata/configuration", get, Permission.TRUSTED),)
