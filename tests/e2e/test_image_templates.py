"""Templates of images in real roots: host names, configuration, and hostile templates."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import zstandard
from command import Cli
from daemon import Daemon
from debian import debian_image
from tars import member, symlink, tar
from waiting import booted

from isola.testing.images import tiny_split_image

META = '#cloud-config\ninstance-id: {{ container.name }}\n{{ config_get("user.meta-data", "") }}\n'
HOSTS = "127.0.0.1\tlocalhost\n127.0.1.1\t{{ container.name }}\n"


def with_templates(place: Path, templates: Mapping[str, object], texts: Mapping[str, str]) -> tuple[Path, Path]:
    """A split image of busybox with these templates and symlinks to the outside in its root."""
    _, root = tiny_split_image(place)
    head = {"architecture": "x86_64", "creation_date": 1_700_000_000, "templates": templates}
    members = [member("metadata.yaml", json.dumps(head).encode())]
    members += [member(f"templates/{name}", text.encode()) for name, text in texts.items()]
    (place / "meta.tar").write_bytes(tar(*members))
    links = symlink("out", str(place)), symlink("etc/leaf", f"{place}/leaf")
    with tarfile.open(root) as source, tarfile.open(place / "root.tar", "w") as target:
        for each in source:
            target.addfile(each, source.extractfile(each) if each.isreg() else None)
        for info, _ in links:
            target.addfile(info)
    return place / "meta.tar", place / "root.tar"


@pytest.fixture
def place(tmp_path: Path, isola: Cli) -> Iterator[Path]:
    yield tmp_path
    isola("delete", "--force", "tpl1", check=False)
    isola("delete", "--force", "tpl2", check=False)
    isola("image", "delete", "templated", "foreign", check=False)


def when(name: str, *triggers: str, **more: object) -> dict[str, object]:
    return {"template": name, "when": list(triggers), "properties": {}, **more}


def test_templates_are_applied_like_in_lxd(isola: Cli, daemon: Daemon, place: Path) -> None:
    templates = {
        "/etc/hosts": when("hosts.tpl", "create", "copy", "rename"),
        "/var/lib/cloud/seed/nocloud-net/meta-data": when("meta.tpl", "create", "copy"),
        "/etc/runs": when("runs.tpl", "start"),
    }
    texts = {"hosts.tpl": HOSTS, "meta.tpl": META, "runs.tpl": "{{ trigger }} {{ config_get('user.run', '0') }}"}
    daemon.import_split(*with_templates(place, templates, texts), "templated")
    isola("create", "templated", "tpl1", "-c", "user.meta-data=mine: yes")
    assert daemon.get("/1.0/instances/tpl1")["config"]["volatile.apply_template"] == "create"
    assert daemon.get("/1.0/instances/tpl1/metadata/templates") == ["hosts.tpl", "meta.tpl", "runs.tpl"]
    assert daemon.get("/1.0/instances/tpl1/metadata")["templates"]["/etc/runs"] == {
        "when": ["start"],
        "create_only": False,
        "template": "runs.tpl",
        "properties": {},
    }
    isola("start", "tpl1")
    seed = "/var/lib/cloud/seed/nocloud-net/meta-data"
    assert daemon.exec("tpl1", "cat", seed)[1] == "#cloud-config\ninstance-id: tpl1\nmine: yes\n"
    assert daemon.exec("tpl1", "stat", "-c", "%u %g %a", seed)[1] == "0 0 644\n"
    assert daemon.exec("tpl1", "cat", "/etc/hosts")[1] == HOSTS.replace("{{ container.name }}", "tpl1")
    isola("config", "set", "tpl1", "user.run=7")
    isola("stop", "tpl1", "--force")
    isola("rename", "tpl1", "tpl2")
    isola("start", "tpl2")
    assert daemon.exec("tpl2", "cat", "/etc/hosts")[1] == HOSTS.replace("{{ container.name }}", "tpl2")
    assert daemon.exec("tpl2", "cat", "/etc/runs")[1] == "start 7"
    assert "instance-id: tpl1" in daemon.exec("tpl2", "cat", seed)[1]


def test_hostile_templates_do_not_reach_the_host_or_prevent_a_start(isola: Cli, daemon: Daemon, place: Path) -> None:
    outside = place / "outside"
    outside.mkdir()
    (place / "leaf").write_text("of the host")
    templates = {
        f"/../../../..{outside}/climbed": when("x", "create"),
        "/out/outside/followed": when("x", "create"),
        "/etc/leaf": when("x", "create"),
        "/proc/sys/kernel/core_pattern": when("x", "create"),
        "/dev/kmsg": when("x", "create"),
        "/etc/endless": when("endless", "create"),
        "/etc/large": when("large", "create"),
        "/etc/secret": when("secret", "create"),
    }
    texts = {
        "x": "written by {{ container.name }}",
        "endless": "{% for a in 'x' * 100000 %}{% for b in 'x' * 100000 %}{% endfor %}{% endfor %}",
        "large": "{{ 'x' * 100000000 }}",
        "secret": "{{ ''.__class__.__mro__[1].__subclasses__() }}{% include '/etc/shadow' %}",
    }
    core = Path("/proc/sys/kernel/core_pattern").read_text()
    daemon.import_split(*with_templates(place, templates, texts), "templated")
    isola("launch", "templated", "tpl1")
    assert list(outside.iterdir()) == []
    assert (place / "leaf").read_text() == "of the host"
    assert Path("/proc/sys/kernel/core_pattern").read_text() == core
    assert daemon.exec("tpl1", "cat", f"{outside}/climbed")[1] == "written by tpl1"
    for name in ("endless", "large", "secret"):
        assert daemon.exec("tpl1", "cat", f"/etc/{name}")[0] != 0


def test_a_distribution_does_not_start_with_its_builders_hostname(daemon: Daemon, isola: Cli, place: Path) -> None:
    """Debian with systemd, which reads ``/etc/hostname`` at boot, without templates."""
    _, rootfs = debian_image()
    with (
        zstandard.open(rootfs, "rb") as packed,
        (place / "root.tar").open("wb") as target,
        tarfile.open(fileobj=packed, mode="r|") as source,
        tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for each in source:
            archive.addfile(each, source.extractfile(each) if each.isreg() else None)
        info, content = member("./etc/hostname", b"builder\n")
        archive.addfile(info, io.BytesIO(content))
    isola("image", "import", str(place / "root.tar"), "--alias", "foreign")
    isola("launch", "foreign", "tpl1")
    booted(daemon, "tpl1")
    assert daemon.exec("tpl1", "hostname")[1] == "tpl1\n"
    isola("exec", "tpl1", "--", "sh", "-c", "echo chosen >/etc/hostname")
    isola("restart", "tpl1")
    booted(daemon, "tpl1")
    assert daemon.exec("tpl1", "hostname")[1] == "chosen\n"


def test_the_debian_image_of_isola_follows_a_rename(debian: Daemon, isola: Cli, place: Path) -> None:
    isola("launch", "debian/12", "tpl1")
    assert debian.exec("tpl1", "cat", "/etc/hostname")[1] == "tpl1\n"
    isola("stop", "tpl1", "--force")
    isola("rename", "tpl1", "tpl2")
    isola("start", "tpl2")
    booted(debian, "tpl2")
    assert debian.exec("tpl2", "hostname")[1] == "tpl2\n"
