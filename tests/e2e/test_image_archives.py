"""Archives of images between ``isola``, ``skopeo`` and directories of OCI's layout."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from audit import settled
from command import Cli


def skopeo(*arguments: str) -> str:
    argv = ["skopeo", "--insecure-policy", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def exported(isola: Cli, tmp_path: Path) -> Path:
    """The image ``tiny`` with a name of a registry, as an archive."""
    isola("image", "alias", "tiny", "docker.io/library/small:1")
    target = tmp_path / "small.tar"
    isola("image", "export", "tiny", str(target), "--oci")
    isola("image", "unalias", "docker.io/library/small:1")
    return target


def test_skopeo_reads_what_is_exported(exported: Path, tmp_path: Path) -> None:
    seen = json.loads(skopeo("inspect", f"oci-archive:{exported}:1"))
    assert (seen["Os"], len(seen["Layers"])) == ("linux", 1)
    assert json.loads(skopeo("inspect", f"docker-archive:{exported}"))["Layers"]
    skopeo("copy", f"oci-archive:{exported}:1", f"dir:{tmp_path / 'copy'}")


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive", "oci"])
def test_what_skopeo_writes_is_imported_and_run(form: str, isola: Cli, exported: Path, tmp_path: Path) -> None:
    written = tmp_path / "written"
    # Docker's format has no layers with zstd: from its own layout, skopeo reads them uncompressed.
    source = f"docker-archive:{exported}" if form == "docker-archive" else f"oci-archive:{exported}:1"
    skopeo("copy", source, f"{form}:{written}:example.org/team/{form}:2")
    isola("image", "import", str(written), "--alias", f"from-{form}")
    assert f"example.org/team/{form}:2" in isola("image", "aliases").stdout
    isola("launch", f"from-{form}", "archived")
    assert "Busybox" in isola("exec", "archived", "--", "cat", "/etc/os-release").stdout
    isola("delete", "-f", "archived")
    if form != "oci":  # the same manifest as the image that was exported
        isola("image", "delete", f"from-{form}")
    assert not settled(isola.daemon)
