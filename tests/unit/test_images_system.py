"""The command and stop signal of an image are derived from its root and its properties."""

import pytest

from isola.errors import InvalidInput, Unsupported
from isola.images.architecture import architecture, check_runs, debian_architecture, platform
from isola.images.system import config_of


@pytest.mark.parametrize(
    ("found", "signal"),
    [
        ({"usr/sbin/init": "link:/lib/systemd/systemd"}, "SIGRTMIN+3"),
        ({"sbin/init": "link:../lib/systemd/systemd"}, "SIGRTMIN+3"),
        ({"sbin/init": "link:/bin/busybox"}, "SIGUSR1"),
        ({"sbin/init": "file"}, "SIGPWR"),
        ({}, "SIGPWR"),
    ],
)
def test_the_stop_signal_is_the_init_s(found: dict[str, str], signal: str) -> None:
    config = config_of(found, {})
    assert (config.system, config.command, config.stop_signal) == (True, ("/sbin/init",), signal)


def test_properties_override() -> None:
    config = config_of(
        {"sbin/init": "link:/lib/systemd/systemd"},
        {
            "isola.type": "application",
            "isola.command": "sh -c 'echo hi'",
            "isola.environment.LANG": "C",
            "isola.cwd": "/srv",
            "isola.user": "1000:1000",
        },
    )
    assert config.command == ("sh", "-c", "echo hi")
    assert config.environment == {"LANG": "C"}
    assert (config.system, config.cwd, config.user, config.stop_signal) == (False, "/srv", "1000:1000", "SIGTERM")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("isola.type", "vm"),
        ("isola.command", "'open"),
        ("isola.command", ""),
        ("isola.cwd", "srv"),
        ("isola.stop-signal", "SIGNOPE"),
        ("isola.environment.A B", "x"),
    ],
)
def test_wrong_properties_are_named(key: str, value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        config_of({}, {key: value})
    assert caught.value.field == f"properties.{key}"


def test_architectures_have_three_names() -> None:
    assert architecture("amd64") == "x86_64"
    assert platform("armv7l") == {"architecture": "arm", "os": "linux", "variant": "v7"}
    assert debian_architecture("armv7l") == "armhf"
    with pytest.raises(InvalidInput):
        architecture("pdp11")


def test_images_of_other_architectures_are_refused() -> None:
    check_runs("x86_64", "x86_64")
    check_runs("i686", "x86_64")
    with pytest.raises(Unsupported, match="aarch64"):
        check_runs("aarch64", "x86_64")
