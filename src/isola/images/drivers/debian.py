"""Debian system images, built from Debian's own packages: for containers, and disks for virtual machines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, time
from pathlib import Path

from isola.errors import DriverUnavailable, Forbidden, InvalidInput, IsolaError, Unsupported
from isola.host import Host
from isola.host.outside import is_limited
from isola.images import cloud_recipe, disk_recipe
from isola.images.architecture import architecture, debian_architecture
from isola.images.debian_build import Content, DebianBuild
from isola.images.debian_mirror import sources
from isola.images.debian_names import NUMBERS, SUITES, Name, offered, parse
from isola.images.debian_recipe import FILES, HOOKS, KEYRING, TEMPLATE_FILES, TEMPLATES, Recipe
from isola.images.disk_recipe import Layout
from isola.images.metadata import Metadata
from isola.images.source import ImageSource, SourceRequest
from isola.images.store import Intake
from isola.images.system_image import system_image
from isola.images.vm_image import vm_image
from isola.model.image import Image
from isola.model.isolation import CONTAINER, VIRTUAL_MACHINE
from isola.model.probe import Probe
from isola.operations import Operation
from isola.settings import Setting, Settings, boolean, one_of, whole

_NONE: Mapping[str, str] = {}
_PROGRAMS = {"mmdebstrap": "mmdebstrap", "unshare": "util-linux", "setpriv": "util-linux"}
_BEGINNING = 16384
"""Bytes of mmdebstrap with its version."""
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+", re.ASCII)
_VERSION = re.compile(rb"^our \$VERSION = '([0-9.]+)'", re.MULTILINE)
_MIRROR = re.compile(r"https?://[A-Za-z0-9._~:/\[\]%@+-]+", re.ASCII)


def _packages(value: str) -> tuple[str, ...]:
    names = tuple(value.replace(",", " ").split())
    if not all(_PACKAGE.fullmatch(name) for name in names):
        raise ValueError("expected names of Debian packages, separated by commas")
    return names


async def _version(host: Host) -> str:
    """Read in the script: when run, it asks apt and dpkg first, which takes longer than all other probes."""
    script = host.system.find_program("mmdebstrap")
    try:
        text = await host.files.read(script, _BEGINNING) if script else b""
    except IsolaError:
        return ""
    found = _VERSION.search(text)
    return found[1].decode() if found else ""


def _mirror(value: str) -> str:
    if not _MIRROR.fullmatch(value):
        raise ValueError("expected the URL of a Debian mirror (http or https)")
    return value


SETTINGS = Settings(
    "image option",
    Setting("release", one_of(*dict.fromkeys((*SUITES, *NUMBERS))), "Debian release, by number or name", "12"),
    Setting(
        "variant", one_of("minbase", "important", "standard"), "Set of base packages, by mmdebstrap's name", "minbase"
    ),
    Setting("cloud", boolean, "With cloud-init, an SSH server and sudo", "false"),
    Setting(
        "type",
        one_of(CONTAINER, VIRTUAL_MACHINE),
        "Of the instances that it is for: a root file system, or a disk with a kernel and boot programs",
        CONTAINER,
    ),
    Setting("packages", _packages, "Additional packages, separated by commas"),
    Setting(
        "mirror",
        _mirror,
        "Mirror for all packages (default: the repositories of this host's apt with updates and security updates, "
        "else mmdebstrap's default)",
    ),
    Setting(
        "epoch",
        whole(),
        "Latest modification time of files, in seconds since 1970 (default: the beginning of today in UTC)",
    ),
)
"""Options of a request; the name ``debian/13/cloud`` selects the release and the kind."""


class DebianSource(ImageSource):
    """``debian/12``, ``debian/13``: reproducible; the same day and packages give an identical image."""

    settings = SETTINGS

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """Needs mmdebstrap and Debian's keys."""
        missing = [package for program, package in _PROGRAMS.items() if host.system.find_program(program) is None]
        if not await host.files.exists(Path(KEYRING)):
            missing.append("debian-archive-keyring")
        if missing or not await host.files.exists(Path(HOOKS)):
            packages = " ".join(missing or ["mmdebstrap"])
            return Probe(False, reason=f"missing: {packages}", remedy=f"apt-get install {packages}")
        return Probe(True, version=await _version(host))

    def offers(self) -> Mapping[str, str]:
        """Each release by number and by name; with cloud-init, and for virtual machines."""
        return offered()

    def serves(self, name: str) -> bool:
        """Whether a release, and perhaps a kind, is named."""
        return parse(name) is not None

    def canonical(self, name: str) -> str:
        """By number."""
        found = parse(name)
        return found.text if found else name

    def of_type(self, name: str, type: str) -> str:
        """``debian/12/vm`` for virtual machines."""
        found = parse(name)
        return found.of_type(type).text if found and type == VIRTUAL_MACHINE and not found.disk else name

    def check(self, request: SourceRequest) -> None:
        """Checks the name, and the options against ``SETTINGS``."""
        self._name(request)
        if request.options.get("mirror") and is_limited():  # apt resolves names itself, and follows redirects
            raise Forbidden(
                "Callers that are restricted to projects cannot choose a mirror",
                field="options.mirror",
                remedy="leave it out: the packages come from the mirror of this host",
            )

    async def _fetch(self, op: Operation, request: SourceRequest, intake: Intake, place: Path) -> Image:
        name = self._name(request)
        options = {**request.options, "release": name.suite}
        epoch = SETTINGS.value(options, "epoch")
        made = datetime.fromtimestamp(epoch, UTC) if isinstance(epoch, int) else self._today()
        recipe = self._recipe(name, options, await self._sources(options))
        metadata = Metadata(self._architecture(), made, None, self._properties(name, recipe, made, request))
        by, source = f"mmdebstrap --variant={recipe.variant} {recipe.suite}", {"driver": "debian", **options}
        if name.disk:
            if self.host.system.find_program("mkfs.ext4") is None:
                raise DriverUnavailable("There is no mkfs.ext4", remedy="apt-get install e2fsprogs")
            layout = Layout(" ".join((name.text, recipe.variant, *recipe.packages, f"{made:%Y%m%d}")))
            content = _content(name, recipe, made, layout.files(), layout.setup())
            disk = await op.effect("build disk", lambda: DebianBuild(self.host, op, content, place).disk(layout))
            return await vm_image(op, self.host, intake, disk=disk, metadata=metadata, made_by=by, source=source)
        content = _content(name, recipe, made)
        tarball = await op.effect("build root file system", DebianBuild(self.host, op, content, place).tarball)
        return await system_image(
            op,
            self.host,
            intake,
            tarball=tarball,
            metadata=replace(metadata, templates={**TEMPLATES, **(cloud_recipe.TEMPLATES if name.cloud else {})}),
            templates={**TEMPLATE_FILES, **(cloud_recipe.TEMPLATE_FILES if name.cloud else {})},
            made_by=by,
            source=source,
        )

    def _name(self, request: SourceRequest) -> Name:
        """What is asked for by name and options."""
        options = dict(request.options)
        SETTINGS.validate(options, where="options")
        asked = request.name or f"debian/{options.get('release') or '12'}"
        if (found := parse(asked)) is None:
            raise InvalidInput(
                f"Unknown Debian image {asked[:80]!r}", field="name", remedy=f"one of: {', '.join(self.offers())}"
            )
        cloud = found.cloud or SETTINGS.value(options, "cloud") is True
        disk = found.disk or SETTINGS.value(options, "type") == VIRTUAL_MACHINE
        wanted = Name(found.suite, cloud, disk)
        if parse(wanted.text) is None:
            raise Unsupported(
                f"Debian {NUMBERS[found.suite]} is built without cloud-init, for containers alone",
                remedy="use a later release",
            )
        if disk and self._architecture() != disk_recipe.ARCHITECTURE:
            raise Unsupported(
                f"Disks of virtual machines are built on {disk_recipe.ARCHITECTURE} alone", remedy="import a disk image"
            )
        return wanted

    async def _sources(self, options: Mapping[str, str]) -> tuple[str, ...]:
        mirror = options.get("mirror", "")
        return (mirror,) if mirror else await sources(self.host, options["release"])

    def _recipe(self, name: Name, options: Mapping[str, str], sources: tuple[str, ...]) -> Recipe:
        given = SETTINGS.value(options, "packages") or ()
        return Recipe(
            suite=name.suite,
            architecture=debian_architecture(self._architecture()),
            variant=str(SETTINGS.value(options, "variant")),
            packages=(
                *(disk_recipe.packages(name.suite) if name.disk else ()),
                *(cloud_recipe.PACKAGES if name.cloud else ()),
                *(given if isinstance(given, tuple) else ()),
            ),
            sources=sources,
            format="directory" if name.disk else "tar",
        )

    def _architecture(self) -> str:
        return architecture(self.host.system.kernel().architecture)

    def _today(self) -> datetime:
        return datetime.combine(self.host.clock.now().astimezone(UTC).date(), time(), UTC)

    def _properties(self, name: Name, recipe: Recipe, made: datetime, request: SourceRequest) -> dict[str, str]:
        serial = made.strftime("%Y%m%d")
        return {
            "os": "Debian",
            "release": recipe.suite,
            "version": NUMBERS[recipe.suite],
            "variant": "cloud" if name.cloud else recipe.variant,
            "architecture": recipe.architecture,
            "serial": serial,
            "type": "disk-kvm.img" if name.disk else "tar.zst",
            "description": f"Debian {NUMBERS[recipe.suite]} {recipe.suite} {recipe.architecture} ({serial})",
            **request.properties,
        }


def _content(name: Name, recipe: Recipe, made: datetime, files: Mapping[str, str] = _NONE, setup: str = "") -> Content:
    """With the files and commands of a disk."""
    added = cloud_recipe.FILES if name.cloud else {}
    return Content(recipe, {**FILES, **added, **files}, setup + (cloud_recipe.SETUP if name.cloud else ""), made)


DRIVER = DebianSource
