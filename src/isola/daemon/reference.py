"""The reference page of all configuration keys: ``python -m isola.daemon.reference > docs/reference/settings.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from isola import devices, registry
from isola.doors.rest.addresses import ROOT
from isola.instances.settings import SETTINGS as INSTANCE_KEYS
from isola.projects import SETTINGS as PROJECT_KEYS
from isola.server import SETTINGS as SERVER_KEYS
from isola.settings import Settings
from isola.storage.volume_settings import SETTINGS as VOLUME_KEYS

_HEAD = """# Configuration keys

<!-- Written by `python -m isola.daemon.reference`; a test compares. -->

Every key is a row of a table in the program, which also validates it: what stands under *expected* is what the daemon
answers to a wrong value. All values are texts; an empty one takes a key away. A key that ends in `.*` stands for all
that begin so. *live* says whether a change takes effect at once on what runs.
"""

_INSTANCES = """
    isola launch debian/12 web1 -c limits.memory=512MiB -c boot.autostart=true
    isola config set web1 limits.cpu=2
    isola config unset web1 limits.cpu

The same keys stand in profiles. Later profiles win over earlier ones, and the instance over all its profiles.
"""

_DEVICES = """
    isola launch debian/12 web1 --device eth0,type=nic,network=lab,ipv4.address=10.9.8.20

A device has a name and a `type`. A device of the instance replaces one of its profiles as a whole; the type `none`
takes away a device of the same name that a profile gives. Every change takes effect at once on what runs; *live* keys
do without unplugging the device for a moment.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([*_sections(), ""])


def _sections() -> Iterator[str]:
    yield _HEAD
    yield from ("## Instances and profiles", _INSTANCES, *_table(INSTANCE_KEYS))
    yield from ("", "## Devices of instances and profiles", _DEVICES.rstrip())
    for kind in devices.kinds():
        if list(devices.settings_of(kind)):
            yield from ("", f"### Devices of type `{kind}`", "", *_table(devices.settings_of(kind)))
            yield from ("", f"[More about it](devices/{kind.replace('-', '_')}.md).")
    for name in registry.names("network"):
        yield from _driver(f"Networks of type `{name}`", "network", name, "isola network set NAME KEY=VALUE")
    for name in registry.names("storage"):
        yield from _driver(f"Storage pools of driver `{name}`", "storage", name, "isola storage set NAME KEY=VALUE")
    yield from ("", "## Custom storage volumes", "", "    isola storage volume set POOL/VOLUME KEY=VALUE", "")
    yield from _table(VOLUME_KEYS)
    for name in registry.names("images"):
        if list(registry.load("images", name).settings):
            yield from _driver(
                f"Options of the image source `{name}`", "images", name, "isola image build IMAGE -o KEY=VALUE"
            )
    yield from ("", "## Projects", "", "    isola project set NAME KEY=VALUE", "")
    yield from _table(PROJECT_KEYS)
    yield from ("", "## The server", "", f'    isola query -X PATCH -d \'{{"config": {{"KEY": "VALUE"}}}}\' {ROOT}', "")
    yield from _table(SERVER_KEYS)


def _driver(title: str, kind: str, name: str, typed: str) -> Iterator[str]:
    yield from ("", f"## {title}", "", f"    {typed}", "")
    yield from _table(registry.load(kind, name).settings)
    yield from ("", f"[More about it]({kind}/{name}.md).")


def _table(settings: Settings) -> Iterator[str]:
    """Whether a key is live is said where there are keys that are."""
    rows = list(settings)
    live = any(row.live for row in rows)
    yield _line(("key", "expected", "default", *(["live"] if live else []), "meaning"))
    yield _line(["---"] * (5 if live else 4))
    for row in rows:
        default = "" if row.default is None else f"`{row.default}`"
        alive = (["" if row.read_only else "yes" if row.live else "no"]) if live else []
        yield _line((f"`{row.key}`", row.expected, default, *alive, f"{row.help.rstrip('.')}."))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


if __name__ == "__main__":
    sys.stdout.write(page())
