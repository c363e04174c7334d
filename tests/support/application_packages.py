"""Debian and Python packages for the builds of tests, which have no way out: downloaded once by the host.

Kept below ``.cache``, like the Debian image that they fit.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import zstandard
from debian import debian_image, made_once

_TREE = Path(__file__).resolve().parents[2]
DEBIAN = {"db": "postgresql", "web": "python3"}
"""Directory -> package."""
PYTHON = ("pip==25.1.1", "flask==3.1.1", "gunicorn==23.0.0", "psycopg2-binary==2.9.10")
_OF_IMAGE = ("etc/apt/sources.list", "var/lib/dpkg/status")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_PYTHON_VERSION = "3.11"
"""Of Debian 12."""


def application_packages() -> Path:
    """A directory with ``db/debs``, ``web/debs`` and ``web/wheels``: all that is needed on top of the Debian image."""
    rootfs = debian_image()[1]
    wanted = (rootfs.parent.name, *DEBIAN.values(), *PYTHON)
    place = _TREE / ".cache" / f"application-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:16]}"
    made_once(place, lambda scratch: _download(rootfs, scratch))
    return place


def _download(rootfs: Path, target: Path) -> None:
    _debs(rootfs, target)
    _wheels(target / "web" / "wheels")


def _debs(rootfs: Path, target: Path) -> None:
    """With the image's own package sources, and its list of what is installed."""
    root = target / "apt"
    for name in ("lists/partial", "debs/partial"):
        (root / name).mkdir(parents=True)
    with (
        rootfs.open("rb") as stream,
        zstandard.ZstdDecompressor().stream_reader(stream) as plain,
        tarfile.open(fileobj=plain, mode="r|") as archive,
    ):
        for member in archive:
            if (name := member.name.removeprefix("./")) in _OF_IMAGE:
                content = archive.extractfile(member)
                assert content is not None
                (root / Path(name).name).write_bytes(content.read())
    options = {
        "Dir::Etc::sourcelist": root / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::trusted": _KEYRING,
        "Dir::State": root,
        "Dir::State::status": root / "status",
        "Dir::State::lists": root / "lists",
        "Dir::Cache": root,
        "Dir::Cache::archives": root / "debs",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
    }
    apt = ["apt-get", "-q", *(f"-o{key}={value}" for key, value in options.items())]
    _run(*apt, "update")
    for name, package in DEBIAN.items():
        _run(*apt, "--download-only", "--yes", "install", package)
        debs = target / name / "debs"
        debs.mkdir(parents=True)
        for file in (root / "debs").glob("*.deb"):
            file.rename(debs / file.name)
    shutil.rmtree(root)


def _wheels(target: Path) -> None:
    _run(
        sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--dest", str(target),
        "--only-binary", ":all:", "--python-version", _PYTHON_VERSION, *PYTHON,
    )  # fmt: skip


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, timeout=300, stdout=subprocess.DEVNULL)
