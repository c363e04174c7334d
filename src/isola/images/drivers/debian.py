"""Debian system images, built from Debian's own packages by mmdebstrap."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, time
from pathlib import Path

from isola.errors import CommandFailed, InvalidInput
from isola.host import Host
from isola.images.architecture import architecture, debian_architecture
from isola.images.debian_mirror import sources
from isola.images.debian_progress import BuildProgress
from isola.images.debian_recipe import FILES, HOOKS, KEYRING, TEMPLATE_FILES, TEMPLATES, Recipe, setup_script
from isola.images.metadata import Metadata
from isola.images.source import ImageSource, SourceRequest
from isola.images.store import Intake
from isola.images.system_image import system_image
from isola.model.image import Image
from isola.model.probe import Probe
from isola.operations import Operation
from isola.settings import Setting, Settings, one_of, whole

_SUITES = {"11": "bullseye", "12": "bookworm", "13": "trixie", "sid": "sid"}
_NUMBERS = {suite: number for number, suite in _SUITES.items()}
_PROGRAMS = {"mmdebstrap": "mmdebstrap", "unshare": "util-linux", "setpriv": "util-linux"}
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+", re.ASCII)
_MIRROR = re.compile(r"https?://[A-Za-z0-9._~:/\[\]%@+-]+", re.ASCII)
_PASSED_ON = ("http_proxy", "https_proxy", "no_proxy")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TIMEOUT = 3600.0
_REMEDY = "check that the mirror is reachable and has the release and all packages"
_REMEDIES = {
    "is expired (invalid since": "the mirror's Release file has expired, so it lacks recent security updates: "
    "use another mirror (option mirror) or release, or correct the clock of this host",
    "is not valid yet (invalid for": "the mirror's Release file is dated in the future: correct the clock of this host",
}
"""Remedies by apt's message."""


def _packages(value: str) -> tuple[str, ...]:
    names = tuple(value.replace(",", " ").split())
    if not all(_PACKAGE.fullmatch(name) for name in names):
        raise ValueError("expected names of Debian packages, separated by commas")
    return names


def _mirror(value: str) -> str:
    if not _MIRROR.fullmatch(value):
        raise ValueError("expected the URL of a Debian mirror (http or https)")
    return value


SETTINGS = Settings(
    "image option",
    Setting("release", one_of(*dict.fromkeys((*_SUITES, *_NUMBERS))), "Debian release, by number or name", "12"),
    Setting(
        "variant", one_of("minbase", "important", "standard"), "Set of base packages, by mmdebstrap's name", "minbase"
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
"""Options of a request; the name ``debian/13`` selects the release."""


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
        done = await host.processes.run(["mmdebstrap", "--version"], check=False)
        return Probe(True, version=done.stdout.decode(errors="replace").strip().removeprefix("mmdebstrap "))

    def offers(self) -> Mapping[str, str]:
        """Each release by number and by name."""
        return {
            f"debian/{name}": f"Debian {number} ({suite}), a system with systemd, built from Debian's packages"
            for number, suite in _SUITES.items()
            for name in dict.fromkeys((number, suite))
        }

    def canonical(self, name: str) -> str:
        """By number."""
        release = name.removeprefix("debian/")
        return f"debian/{_NUMBERS.get(release, release)}"

    def check(self, request: SourceRequest) -> None:
        """Checks the name, and the options against ``SETTINGS``."""
        self._options(request)

    async def _fetch(self, op: Operation, request: SourceRequest, intake: Intake, place: Path) -> Image:
        options = self._options(request)
        recipe = self._recipe(options, await self._sources(options))
        epoch = SETTINGS.value(options, "epoch")
        made = datetime.fromtimestamp(epoch, UTC) if isinstance(epoch, int) else self._today()
        tarball = await op.effect("build root file system", lambda: self._build(op, recipe, made, place))
        return await system_image(
            op,
            self.host,
            intake,
            tarball=tarball,
            metadata=Metadata(self._architecture(), made, None, self._properties(recipe, made, request), TEMPLATES),
            templates=TEMPLATE_FILES,
            made_by=f"mmdebstrap --variant={recipe.variant} {recipe.suite}",
            source={"driver": "debian", **options},
        )

    def _options(self, request: SourceRequest) -> dict[str, str]:
        options = dict(request.options)
        if request.name:
            if request.name not in self.offers():
                raise InvalidInput(
                    f"Unknown Debian image {request.name[:80]!r}",
                    field="name",
                    remedy=f"one of: {', '.join(self.offers())}",
                )
            options["release"] = request.name.removeprefix("debian/")
        SETTINGS.validate(options, where="options")
        release = options.get("release") or "12"
        return {**options, "release": _SUITES.get(release, release)}

    async def _sources(self, options: Mapping[str, str]) -> tuple[str, ...]:
        mirror = options.get("mirror", "")
        return (mirror,) if mirror else await sources(self.host, options["release"])

    def _recipe(self, options: Mapping[str, str], sources: tuple[str, ...]) -> Recipe:
        packages = SETTINGS.value(options, "packages") or ()
        return Recipe(
            suite=options["release"],
            architecture=debian_architecture(self._architecture()),
            variant=str(SETTINGS.value(options, "variant")),
            packages=packages if isinstance(packages, tuple) else (),
            sources=sources,
        )

    def _architecture(self) -> str:
        return architecture(self.host.system.kernel().architecture)

    def _today(self) -> datetime:
        return datetime.combine(self.host.clock.now().astimezone(UTC).date(), time(), UTC)

    def _properties(self, recipe: Recipe, made: datetime, request: SourceRequest) -> dict[str, str]:
        serial = made.strftime("%Y%m%d")
        return {
            "os": "Debian",
            "release": recipe.suite,
            "version": _NUMBERS[recipe.suite],
            "variant": recipe.variant,
            "architecture": recipe.architecture,
            "serial": serial,
            "type": "tar.zst",
            "description": f"Debian {_NUMBERS[recipe.suite]} {recipe.suite} {recipe.architecture} ({serial})",
            **request.properties,
        }

    async def _build(self, op: Operation, recipe: Recipe, made: datetime, place: Path) -> Path:
        work, setup, target = place / "work", place / "setup", place / "root.tar"
        await self._lay_out(work, place / "files", setup)
        environment = {
            "PATH": _PATH,
            "LC_ALL": "C.UTF-8",
            "TMPDIR": "/mnt",
            "SOURCE_DATE_EPOCH": str(int(made.timestamp())),
            **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        }
        argv = recipe.argv(work=str(work), target=str(target), setup=str(setup))
        progress = BuildProgress(op)
        try:
            await self.host.processes.run(argv, env=environment, timeout=_TIMEOUT, on_line=progress.take_line)
        except CommandFailed as error:
            progress.end(error)
            raise _explained(error) from error
        except BaseException as error:
            progress.end(error)
            raise
        progress.end()
        return target

    async def _lay_out(self, work: Path, files: Path, setup: Path) -> None:
        """Prepare the build's directory: an empty working directory, files to add, and the setup script."""
        await self.host.files.make_directory(work, mode=0o755)
        for path, content in FILES.items():
            await self.host.files.make_directory((files / path).parent, mode=0o755)
            await self.host.files.write(files / path, content.encode(), mode=0o644, durable=False)
        await self.host.files.write(setup, setup_script(str(files)).encode(), mode=0o755, durable=False)


def _explained(error: CommandFailed) -> CommandFailed:
    """The error lines of apt and mmdebstrap, each with the line before it, instead of the end of the log."""
    lines = error.evidence.splitlines()
    errors = [number for number, line in enumerate(lines) if line.startswith(("E:", "W:", "Err:", "dpkg: error"))]
    shown = sorted({*errors, *(number - 1 for number in errors[:1] if number)})
    evidence = "\n".join(lines[number] for number in shown) or error.evidence
    remedy = next((remedy for what, remedy in _REMEDIES.items() if what in evidence), _REMEDY)
    return CommandFailed(["mmdebstrap"], error.status, evidence, remedy=remedy)


DRIVER = DebianSource
