"""Debian's unmodified ``lxc project``: projects are created, filled, limited, restricted and removed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
from lxc_client import Lxc


@pytest.fixture
def blue(lxc: Lxc) -> Iterator[str]:
    """A project that shares images and profiles with the default one."""
    lxc("project", "create", "blue", "-c", "features.images=false", "-c", "features.profiles=false")
    yield "blue"
    for entry in json.loads(lxc("list", "--project", "blue", "--format", "json")):
        lxc("delete", "--force", entry["name"], "--project", "blue")
    lxc("project", "delete", "blue")
    assert "blue" not in lxc("project", "list")


def listed(lxc: Lxc, *arguments: str) -> list[tuple[str, str]]:
    return sorted((each["project"], each["name"]) for each in json.loads(lxc("list", *arguments, "--format", "json")))


def test_a_project_is_changed_and_renamed(lxc: Lxc) -> None:
    lxc("project", "create", "red")
    lxc("project", "set", "red", "user.owner=me")
    assert lxc("project", "get", "red", "user.owner") == "me\n"
    lxc("project", "unset", "red", "user.owner")
    lxc("project", "edit", "red", input=b'description: ours\nconfig:\n  limits.instances: "4"\n')
    shown = lxc("project", "show", "red")
    assert "description: ours" in shown and 'limits.instances: "4"' in shown
    assert 'features.images: "false"' in shown  # missing features are disabled
    lxc("project", "rename", "red", "green")
    assert "INSTANCES" in lxc("project", "info", "green")
    assert "green" in lxc("project", "list")
    lxc("project", "delete", "green")
    lxc("project", "delete", "default", status=1)


def test_instances_of_one_name_run_in_two_projects(lxc: Lxc, blue: str) -> None:
    try:
        for project in ("default", blue):
            lxc("launch", "tiny", "twin", "--project", project)
        assert [each for each in listed(lxc, "--all-projects") if each[1] == "twin"] == [
            ("blue", "twin"),
            ("default", "twin"),
        ]
        assert listed(lxc, "--project", blue) == [("blue", "twin")]
        lxc("exec", "twin", "--project", blue, "--", "sh", "-c", "echo blue > /mark")
        lxc("exec", "twin", "--project", "default", "--", "test", "!", "-e", "/mark")
        lxc("project", "switch", blue)
        assert lxc("file", "pull", "twin/mark", "-") == "blue\n"
        lxc("stop", "--force", "twin")
        assert "Status: STOPPED" in lxc("info", "twin")
        lxc("project", "switch", "default")
        assert "Status: RUNNING" in lxc("info", "twin")
        assert "twin" in lxc("project", "show", blue)
        lxc("project", "delete", blue, status=1)
    finally:
        lxc("project", "switch", "default")
        lxc("delete", "--force", "twin")


def test_volumes_are_copied_and_moved_between_projects(lxc: Lxc, blue: str) -> None:
    def volumes(project: str) -> list[str]:
        listed = json.loads(lxc("storage", "volume", "list", "default", "--project", project, "--format", "json"))
        return [each["name"] for each in listed if each["type"] == "custom" and "/" not in each["name"]]

    lxc("storage", "volume", "create", "default", "crossing")
    try:
        lxc("storage", "volume", "snapshot", "default", "crossing", "before")
        lxc("storage", "volume", "copy", "default/crossing", "default/copied", "--target-project", blue)
        lxc("storage", "volume", "move", "default/crossing", "default/moved", "--target-project", blue)
        assert volumes("default") == [] and volumes(blue) == ["copied", "moved"]
        assert "before" in lxc("storage", "volume", "info", "default", "moved", "--project", blue)
    finally:
        for project in ("default", blue):
            for name in volumes(project):
                lxc("storage", "volume", "delete", "default", name, "--project", project)


def test_limits_and_restrictions_are_enforced(lxc: Lxc, blue: str) -> None:
    lxc("project", "set", blue, "limits.instances=1")
    lxc("init", "tiny", "one", "--project", blue)
    lxc("init", "tiny", "two", "--project", blue, status=1)
    lxc("project", "set", blue, "limits.instances=0", status=1)
    lxc("project", "set", blue, "restricted=true")
    lxc("project", "set", blue, "restricted.devices.nic=block", status=1)
    lxc("delete", "one", "--project", blue)
    lxc("project", "set", blue, "restricted.devices.nic=block")
    lxc("init", "tiny", "one", "--project", blue, status=1)
    assert listed(lxc, "--project", blue) == []


@pytest.mark.parametrize("mode", ["pull", "relay"])
def test_an_image_is_copied_to_a_project(lxc: Lxc, mode: str) -> None:
    """To pull, LXD's client requires that the server listens on the network."""
    lxc("project", "create", "cyan")
    lxc("config", "set", "core.https_address", "127.0.0.1:8447")
    try:
        lxc("image", "copy", "local:tiny", "local:", "--target-project", "cyan", "--alias", "more", "--mode", mode)
        lxc("image", "copy", "local:nope", "local:", "--target-project", "cyan", status=1)
        fingerprint = lxc("image", "list", "tiny", "-f", "csv", "-c", "F").strip()
        assert lxc("image", "list", "more", "--project", "cyan", "-f", "csv", "-c", "F").strip() == fingerprint
        lxc("image", "delete", "more", "--project", "cyan")
        assert lxc("image", "list", "tiny", "-f", "csv", "-c", "F").strip() == fingerprint
        if mode == "pull":
            lxc("image", "copy", "local:tiny", "local:", "--target-project", "cyan", "--copy-aliases", "--public")
            assert "tiny" in lxc("image", "alias", "list", "--project", "cyan", "-f", "csv")
            lxc("image", "copy", "local:tiny", "local:", "--target-project", "cyan")  # once more
            lxc("image", "delete", "tiny", "--project", "cyan")
    finally:
        lxc("config", "unset", "core.https_address")
        lxc("project", "delete", "cyan")


def test_a_project_with_its_own_networks_has_no_bridges(lxc: Lxc) -> None:
    """As with LXD, where bridges belong to the default project too."""
    lxc("project", "create", "grey", "-c", "features.networks=true", "-c", "features.images=false")
    try:
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "capture_output": False}
        said = lxc("network", "create", "lab", "--project", "grey", status=1, **both)
        assert "cannot belong to a project" in said and "features.networks" in said
        lxc("profile", "device", "add", "default", "root", "disk", "path=/", "pool=default", "--project", "grey")
        lxc("profile", "device", "add", "default", "eth0", "nic", "network=isolabr0", "--project", "grey")
        said = lxc("launch", "tiny", "grey1", "--project", "grey", status=1, **both)
        assert "not found" in said and "features.networks off" in said
        lxc("profile", "device", "remove", "default", "eth0", "--project", "grey")
        lxc("profile", "device", "add", "default", "eth0", "nic", "nictype=p2p", "name=eth0", "--project", "grey")
        lxc("launch", "tiny", "grey1", "--project", "grey")
        assert "eth0" in lxc("exec", "grey1", "--project", "grey", "--", "ip", "link")
        assert lxc("network", "list", "--project", "grey", "-f", "csv").count(",YES,") == 0
        lxc("delete", "--force", "grey1", "--project", "grey")
        lxc("project", "set", "grey", "features.networks=false")
        assert "isolabr0" in lxc("network", "list", "--project", "grey", "-f", "csv")
    finally:
        lxc("query", "-X", "DELETE", "/1.0/projects/grey?force=1")
