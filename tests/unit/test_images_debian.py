"""Content of Debian images, for each release."""

from pathlib import Path

import pytest

from isola.images.debian_recipe import Recipe
from isola.images.drivers.debian import DRIVER
from isola.testing.host import fake_host


def option(suite: str, name: str) -> str:
    argv = Recipe(suite, "amd64").argv(work="/w", target="/t", setup="/s")
    return next(argument.partition("=")[2] for argument in argv if argument.startswith(f"--{name}="))


def test_every_release_is_offered_by_number_and_by_name() -> None:
    offers = DRIVER(fake_host(), Path("/scratch")).offers()
    assert {name for name in offers} == {
        "debian/11", "debian/bullseye", "debian/12", "debian/bookworm", "debian/13", "debian/trixie", "debian/sid",
    }  # fmt: skip


@pytest.mark.parametrize("suite", ["bookworm", "trixie", "sid"])
def test_usr_is_merged_by_a_package(suite: str) -> None:
    assert {"usr-is-merged", "systemd-resolved"} <= set(option(suite, "include").split(","))
    assert option(suite, "hook-dir").endswith("/merged-usr")


def test_bullseye_has_neither_package_and_is_merged_first() -> None:
    assert not {"usr-is-merged", "systemd-resolved"} & set(option("bullseye", "include").split(","))
    assert option("bullseye", "setup-hook").endswith("/merged-usr/setup00.sh")
