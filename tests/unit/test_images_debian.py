"""Content of Debian images, for each release."""

from dataclasses import replace
from pathlib import Path

import pytest

from isola.errors import Forbidden, InvalidInput, Unsupported
from isola.host.outside import limit_to_outside
from isola.images.debian_recipe import Recipe
from isola.images.drivers.debian import DebianSource
from isola.images.source import SourceRequest
from isola.testing.host import fake_host
from isola.testing.system import FakeSystem


def option(suite: str, name: str) -> str:
    argv = Recipe(suite, "amd64").argv(work="/w", target="/t", setup="/s")
    return next(argument.partition("=")[2] for argument in argv if argument.startswith(f"--{name}="))


def source() -> DebianSource:
    return DebianSource(fake_host(), Path("/scratch"))


def test_every_release_is_offered_by_number_and_by_name() -> None:
    assert {name for name in source().offers() if name.count("/") == 1} == {
        "debian/11", "debian/bullseye", "debian/12", "debian/bookworm", "debian/13", "debian/trixie", "debian/sid",
    }  # fmt: skip


def test_kinds_are_offered_by_number() -> None:
    offered = set(source().offers())
    assert {"debian/12/cloud", "debian/12/vm", "debian/12/cloud/vm", "debian/sid/vm"} <= offered
    assert not any(name.startswith("debian/11/") for name in offered)


@pytest.mark.parametrize("name", ["debian/bookworm/vm", "debian/trixie/cloud/vm", "debian/sid/cloud"])
def test_other_names_of_offered_images_are_served(name: str) -> None:
    assert source().serves(name)
    assert source().canonical(name) in source().offers()


@pytest.mark.parametrize(
    "name",
    ["debian", "debian/", "debian/10", "debian/12/", "debian/12/vm/cloud", "debian/12/x", "debian/11/vm", "ubuntu/12"],
)
def test_other_names_are_not(name: str) -> None:
    assert not source().serves(name)
    with pytest.raises(InvalidInput):
        source().check(SourceRequest(name=name))


async def test_restricted_callers_cannot_choose_a_mirror() -> None:
    """Apt would ask whatever this host alone can reach, and say in the error what it was answered."""
    wanted = SourceRequest(name="debian/12", options={"mirror": "http://169.254.169.254/latest"})
    source().check(wanted)
    limit_to_outside(True)
    try:
        with pytest.raises(Forbidden, match="cannot choose a mirror"):
            source().check(wanted)
        source().check(SourceRequest(name="debian/12", options={"variant": "important"}))
    finally:
        limit_to_outside(False)


def test_virtual_machines_have_images_of_their_own_under_the_same_name() -> None:
    assert source().of_type("debian/bookworm", "virtual-machine") == "debian/12/vm"
    assert source().of_type("debian/13/cloud", "virtual-machine") == "debian/13/cloud/vm"
    assert source().of_type("debian/12/vm", "virtual-machine") == "debian/12/vm"
    assert source().of_type("debian/12", "container") == "debian/12"
    assert source().of_type("debian/11", "virtual-machine") == "debian/11"


def test_options_say_the_same_as_names_and_what_is_not_built_is_refused() -> None:
    source().check(SourceRequest(options={"release": "12", "cloud": "true", "type": "virtual-machine"}))
    with pytest.raises(Unsupported, match="11"):
        source().check(SourceRequest(name="debian/11", options={"type": "virtual-machine"}))
    host = fake_host(system=FakeSystem(uname=replace(FakeSystem().uname, architecture="aarch64")))
    with pytest.raises(Unsupported, match="x86_64"):
        DebianSource(host, Path("/scratch")).check(SourceRequest(name="debian/12/vm"))


@pytest.mark.parametrize("suite", ["bookworm", "trixie", "sid"])
def test_usr_is_merged_by_a_package(suite: str) -> None:
    assert {"usr-is-merged", "systemd-resolved"} <= set(option(suite, "include").split(","))
    assert option(suite, "hook-dir").endswith("/merged-usr")


def test_bullseye_has_neither_package_and_is_merged_first() -> None:
    assert not {"usr-is-merged", "systemd-resolved"} & set(option("bullseye", "include").split(","))
    assert option("bullseye", "setup-hook").endswith("/merged-usr/setup00.sh")
