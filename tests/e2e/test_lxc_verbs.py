"""Verbs of Debian's unmodified ``lxc`` that manage more than instances, and what it prints when it is refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
from lxc_client import Lxc

METADATA = b"""
architecture: x86_64
creation_date: 1700000000
expiry_date: 0
properties: {os: Own}
templates:
  /etc/own:
    when: [start]
    create_only: false
    template: own.tpl
    properties: {greeting: hello}
"""


@pytest.fixture
def stopped(lxc: Lxc) -> Iterator[str]:
    lxc("init", "tiny", "verbs1")
    yield "verbs1"
    lxc("delete", "--force", "verbs1")


def test_profiles_are_edited_copied_renamed_and_assigned(lxc: Lxc, stopped: str) -> None:
    lxc("profile", "create", "pa")
    lxc("profile", "device", "add", "pa", "eth9", "nic", "network=isolabr0", "name=eth9")
    lxc("profile", "device", "set", "pa", "eth9", "mtu=1400")
    assert lxc("profile", "device", "get", "pa", "eth9", "mtu") == "1400\n"
    lxc("profile", "device", "unset", "pa", "eth9", "mtu")
    assert lxc("profile", "device", "list", "pa") == "eth9\n"
    lxc("profile", "device", "remove", "pa", "eth9")
    lxc("profile", "edit", "pa", input=b'description: edited\nconfig:\n  limits.cpu: "1"\ndevices: {}\n')
    assert "description: edited" in lxc("profile", "show", "pa")
    lxc("profile", "copy", "pa", "pb")
    lxc("profile", "rename", "pb", "pc")
    lxc("profile", "assign", stopped, "default,pa")
    assert lxc.daemon.get(f"/1.0/instances/{stopped}")["profiles"] == ["default", "pa"]
    lxc("profile", "remove", stopped, "pa")
    lxc("profile", "assign", stopped, "nope", status=1)
    assert lxc("profile", "get", "pc", "limits.cpu") == "1\n"
    for name in ("pa", "pc"):
        lxc("profile", "delete", name)
    lxc("profile", "delete", "default", status=1)


def test_networks_are_edited_attached_and_renamed(lxc: Lxc, stopped: str) -> None:
    lxc("network", "create", "na", "ipv4.address=none", "ipv6.address=none")
    lxc("network", "set", "na", "ipv4.nat=true")
    assert lxc("network", "get", "na", "ipv4.nat") == "true\n"
    lxc("network", "unset", "na", "ipv4.nat")
    lxc("network", "edit", "na", input=b"description: edited\nconfig:\n  ipv4.address: none\n  ipv6.address: none\n")
    assert "description: edited" in lxc("network", "show", "na")
    lxc("network", "rename", "na", "nb")
    assert "MTU: 1500" in lxc("network", "info", "nb")
    lxc("network", "attach", "nb", stopped, "eth7")
    lxc("network", "delete", "nb", status=1)
    lxc("network", "detach", "nb", stopped, "eth7")
    lxc("network", "delete", "nb")
    lxc("network", "set", "lo", "user.a=b", status=1)


def test_pools_and_volumes(lxc: Lxc, stopped: str) -> None:
    assert "total space" in lxc("storage", "info", "default")
    lxc("storage", "create", "px", "overlay")
    lxc("storage", "set", "px", "user.x=1")
    assert lxc("storage", "get", "px", "user.x") == "1\n"
    lxc("storage", "edit", "px", input=b"description: edited\nconfig: {}\n")
    assert "description: edited" in lxc("storage", "show", "px")
    lxc("storage", "delete", "px")
    assert stopped in lxc("storage", "volume", "list", "default")
    assert (
        json.loads(lxc("query", f"/1.0/storage-pools/default/volumes/container/{stopped}/state"))["usage"]["used"] > 0
    )


def test_devices_are_overridden_and_configuration_edited(lxc: Lxc, stopped: str) -> None:
    lxc("config", "device", "override", stopped, "eth0", "mtu=1400")
    lxc("config", "device", "set", stopped, "eth0", "mtu=1300")
    assert lxc("config", "device", "get", stopped, "eth0", "mtu") == "1300\n"
    assert lxc("config", "device", "list", stopped) == "eth0\n"
    lxc("config", "device", "remove", stopped, "eth0")
    lxc("config", "edit", stopped, input=b"profiles: [default]\ndescription: edited\nconfig:\n  user.a: b\n")
    shown = lxc.daemon.get(f"/1.0/instances/{stopped}")
    assert (shown["description"], shown["config"]["user.a"]) == ("edited", "b")
    assert lxc("list", "user.a=b", "-c", "nd", "-f", "csv") == f"{stopped},edited\n"
    assert stopped in lxc("list", "--fast")


def test_metadata_and_templates_are_edited(lxc: Lxc, stopped: str) -> None:
    assert "creation_date:" in lxc("config", "metadata", "show", stopped)
    lxc("config", "template", "create", stopped, "own.tpl")
    text = b"I am {{ container.name }}, {{ properties.greeting }}\n"
    lxc("config", "template", "edit", stopped, "own.tpl", input=text)
    assert "{{ container.name }}" in lxc("config", "template", "show", stopped, "own.tpl")
    assert "own.tpl" in lxc("config", "template", "list", stopped)
    lxc("config", "template", "show", stopped, "nope.tpl", status=1)
    lxc("config", "metadata", "edit", stopped, input=METADATA)
    shown = lxc("config", "metadata", "show", stopped)
    assert "architecture: x86_64" in shown and "os: Own" in shown and "template: own.tpl" in shown
    lxc("start", stopped)
    assert lxc("exec", stopped, "--", "cat", "/etc/own") == f"I am {stopped}, hello\n"
    lxc("config", "template", "edit", stopped, "own.tpl", input=b"again\n")
    lxc("restart", "--force", stopped)
    assert lxc("exec", stopped, "--", "cat", "/etc/own") == "again\n"
    lxc("config", "template", "delete", stopped, "own.tpl")
    lxc("config", "template", "delete", stopped, "own.tpl", status=1)
    lxc("restart", "--force", stopped)
    assert lxc("exec", stopped, "--", "cat", "/etc/own") == "again\n"


def test_images_are_described_and_aliases_renamed(lxc: Lxc) -> None:
    fingerprint = lxc("image", "list", "tiny", "-f", "csv", "-c", "f").strip()
    lxc("image", "alias", "create", "more", fingerprint)
    lxc("image", "alias", "rename", "more", "other/name")
    assert f"other/name,{fingerprint}" in lxc("image", "alias", "list", "-f", "csv")
    lxc("image", "alias", "delete", "other/name")
    lxc("image", "alias", "delete", "other/name", status=1)
    lxc("image", "set-property", "tiny", "note", "1")
    assert lxc("image", "get-property", "tiny", "note") == "1\n"
    lxc("image", "unset-property", "tiny", "note")
    lxc("image", "get-property", "tiny", "note", status=1)


def test_operations_are_shown_and_deleted(lxc: Lxc, instance: str) -> None:
    sleeping = subprocess.Popen(["lxc", "exec", instance, "--", "sleep", "60"], env=lxc.env, stdin=subprocess.DEVNULL)
    try:
        operation = lxc.until_operation("websocket")
        assert "status: Running" in lxc("operation", "show", operation)
        lxc("operation", "delete", operation)
        assert sleeping.wait(60) != 0
        lxc("operation", "delete", operation, status=1)
    finally:
        sleeping.kill()
        sleeping.wait()


@pytest.mark.parametrize("mode", ["interactive", "non-interactive"])
def test_exec_in_both_modes(lxc: Lxc, instance: str, mode: str) -> None:
    assert lxc("exec", instance, "--mode", mode, "--", "echo", "hi").split() == ["hi"]


def test_queries_wait_and_change(lxc: Lxc, stopped: str) -> None:
    lxc("query", "-X", "PATCH", "-d", '{"description": "asked"}', f"/1.0/instances/{stopped}")
    ended = lxc("query", "--wait", "-X", "PUT", "-d", '{"action": "start"}', f"/1.0/instances/{stopped}/state")
    assert json.loads(ended)["status"] == "Success"
    assert json.loads(lxc("query", "--raw", f"/1.0/instances/{stopped}"))["metadata"]["description"] == "asked"
    lxc("query", "-X", "DELETE", f"/1.0/instances/{stopped}", status=1)


def test_the_project_is_shown(lxc: Lxc, stopped: str) -> None:
    assert "INSTANCES" in lxc("project", "info", "default")
    assert "default (current)" in lxc("project", "list")
    lxc("project", "switch", "nope", status=1)


def test_unsupported_features_fail_with_a_reason(lxc: Lxc) -> None:
    for arguments, reason in (
        (["network", "acl", "list"], "network_acl"),
        (["cluster", "list"], "clustering"),
    ):
        assert reason in lxc(
            *arguments, status=1, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, capture_output=False
        )
