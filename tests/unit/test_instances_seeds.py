"""The seed of cloud-init: which key wins, what is said when it changes, and bounds."""

from __future__ import annotations

from email import message_from_string

import pytest

from isola.errors import InvalidInput
from isola.instances.seeds import MOST_DATA, seed_of
from isola.instances.settings import SETTINGS
from isola.model.agent_service import FILES

ID = "0123456789abcdef"


def parts(vendor: str) -> list[str]:
    found = message_from_string(vendor)
    assert found.is_multipart()
    return [part.get_payload(decode=True).decode() for part in found.get_payload()]  # type: ignore[union-attr]


def test_a_guest_without_configuration_gets_its_name_and_the_agent() -> None:
    seed = seed_of(ID, "web1", {})
    assert seed["user-data"] == "#cloud-config\n{}\n"
    assert "local-hostname: web1\n" in seed["meta-data"] and f"instance-id: {ID}-" in seed["meta-data"]
    assert seed["isola/hostname"] == "web1\n"
    assert "network-config" not in seed
    (script,) = parts(seed["vendor-data"])
    assert script.startswith("#cloud-boothook\n#!/bin/sh\n")
    assert all(text.rstrip("\n") in script for text in FILES.values())


@pytest.mark.parametrize("name", ["user-data", "network-config"])
def test_keys_of_cloud_init_win_over_those_of_users(name: str) -> None:
    assert seed_of(ID, "a", {f"user.{name}": "old"})[name] == "old"
    assert seed_of(ID, "a", {f"user.{name}": "old", f"cloud-init.{name}": "new"})[name] == "new"


def test_vendor_data_is_beside_the_agent() -> None:
    given = "#cloud-config\npackages: [\u00fc]\n"
    vendor, script = parts(seed_of(ID, "a", {"cloud-init.vendor-data": given})["vendor-data"])
    assert vendor == given and script.startswith("#cloud-boothook")


def test_vendor_data_of_several_parts_stays_as_it_is() -> None:
    given = 'Content-Type: multipart/mixed; boundary="x"\n\n--x--\n'
    assert seed_of(ID, "a", {"user.vendor-data": given})["vendor-data"] == given


def test_the_instance_is_new_when_its_configuration_or_name_changes() -> None:
    def identity(hostname: str, **config: str) -> str:
        return seed_of(ID, hostname, {key.replace("_", "-"): value for key, value in config.items()})["meta-data"]

    assert identity("a") == identity("a")
    keys = {"cloud-init.user-data": "x", "user.vendor-data": "x", "cloud-init.network-config": "x"}
    found = {seed_of(ID, "a", {key: value})["meta-data"] for key, value in keys.items()}
    assert len(found | {identity("a"), identity("b")}) == 5


def test_meta_data_is_added_to() -> None:
    assert seed_of(ID, "a", {"user.meta-data": "cloud-name: x"})["meta-data"].endswith("\ncloud-name: x\n")


@pytest.mark.parametrize("value", ["x" * (MOST_DATA + 1), "\u00fc" * (MOST_DATA // 2 + 1), "a\0b", "\ud800"])
@pytest.mark.parametrize("name", ["user-data", "vendor-data", "network-config"])
def test_impossible_texts_are_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=name):
        SETTINGS.validate({f"cloud-init.{name}": value})
    with pytest.raises(InvalidInput, match=f"user.{name}") as caught:
        seed_of(ID, "a", {f"user.{name}": value})
    assert caught.value.field == f"config.user.{name}"
    assert len(str(caught.value)) < 500


def test_texts_of_the_greatest_length_are_given() -> None:
    config = {f"cloud-init.{name}": "x" * MOST_DATA for name in ("user-data", "vendor-data", "network-config")}
    SETTINGS.validate(config)
    assert seed_of(ID, "a", config)["user-data"] == "x" * MOST_DATA
