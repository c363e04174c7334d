"""Root file systems without metadata, as other tools export them: imported by command and by API, and run."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from command import Cli
from daemon import Daemon

from isola.testing.images import tiny_split_image


def test_a_bare_root_file_system_is_imported_by_command_and_runs(isola: Cli, tmp_path: Path) -> None:
    _, root = tiny_split_image(tmp_path, "bare")
    isola("image", "import", str(root), "--alias", "bare", "--property", "os=Mine", "--property", "variant=small")
    try:
        shown = json.loads(isola("image", "info", "bare", "--format", "json").stdout)
        assert shown["architecture"] == "x86_64"
        assert (shown["properties"]["os"], shown["properties"]["variant"]) == ("Mine", "small")
        isola("launch", "bare", "bare1")
        assert isola("exec", "bare1", "--", "cat", "/proc/1/comm").stdout.strip() in ("init", "sh")
    finally:
        isola("delete", "--force", "bare1", check=False)
        isola("image", "delete", "bare")


def test_a_container_export_is_imported_by_the_api(daemon: Daemon) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in (".dockerenv", "bin/busybox", "dev/console", "etc/hostname", "proc", "sys"):
            info = tarfile.TarInfo(name)
            content = Path("/bin/busybox").read_bytes() if name == "bin/busybox" else b""
            info.type = tarfile.DIRTYPE if name in ("proc", "sys") else tarfile.REGTYPE
            info.size, info.mode = len(content), 0o755
            archive.addfile(info, io.BytesIO(content))
    headers = {"Content-Type": "application/octet-stream", "X-LXD-properties": "os=Busy&release=1"}
    made = daemon.run("POST", "/1.0/images", buffer.getvalue(), headers=headers)
    fingerprint = made["metadata"]["fingerprint"]
    properties = daemon.get(f"/1.0/images/{fingerprint}")["properties"]
    assert (properties["os"], properties["release"], properties["isola.type"]) == ("Busy", "1", "application")
    assert properties["description"] == "Busy 1 amd64 (19700101)"
    daemon.run("DELETE", f"/1.0/images/{fingerprint}")
