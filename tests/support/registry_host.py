"""The registry of a real daemon in its network namespace, and the clients that are used with it there."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from daemon import Daemon
from registry_content import Content

ADDRESS = "127.0.0.1:8443"


class RegistryHost:
    """A daemon that serves its registry on the loopback address of its namespace, and a login token."""

    def __init__(self, daemon: Daemon, place: Path) -> None:
        self.daemon = daemon
        self.place = place
        daemon.request("PATCH", "/1.0", {"config": {"core.https_address": ADDRESS}})
        self.secret = self.token("ci")
        self.certificates = place / "certs"
        self.certificates.mkdir()
        (self.certificates / "ca.crt").write_bytes((daemon.directory / "server.crt").read_bytes())

    def token(self, name: str, **more: object) -> str:
        """A new login token's secret."""
        answer = self.daemon.request("POST", "/1.0/isola/registry/tokens", {"name": name, **more})
        return str(answer["metadata"]["secret"])

    def run(self, *argv: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program in the daemon's network namespace."""
        env = os.environ | {"HOME": str(self.place), "XDG_RUNTIME_DIR": str(self.place)} | options.pop("env", {})
        done = self.daemon.inside(*argv, check=False, env=env, **({"timeout": 120} | options))
        assert not check or done.returncode == 0, f"{' '.join(argv)}: {done.stdout}{done.stderr}"
        return done

    def skopeo(self, verb: str, *arguments: str, check: bool = True, login: str = "") -> str:
        """Its output. The server's certificate is verified."""
        login = login or f"ci:{self.secret}"
        sides = ("src-", "dest-") if verb in ("copy", "sync") else ("",)
        options = [f"--{side}creds={login}" for side in sides]
        options += [f"--{side}cert-dir={self.certificates}" for side in sides]
        done = self.run("skopeo", "--insecure-policy", verb, *options, *arguments, check=check)
        return done.stdout if done.returncode == 0 else f"failed: {done.stderr}"


def layout(place: Path, content: Content, name: str = "latest") -> str:
    """Write an OCI image layout; returns its name for skopeo."""
    blobs = place / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    waiting, described = [content], {**content.described, "annotations": {"org.opencontainers.image.ref.name": name}}
    while waiting:
        each = waiting.pop()
        waiting += each.manifests
        for digest, data in {each.digest: each.data, **each.blobs}.items():
            (blobs / digest[7:]).write_bytes(data)
    (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    return f"oci:{place}:{name}"
