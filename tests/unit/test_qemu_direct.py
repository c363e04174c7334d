"""The command line of QEMU for unikernels, and the arguments of their kernels."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from isola.errors import InvalidInput
from isola.host.link_kinds import Inside
from isola.model.kernel import Kernel
from isola.runtimes import Root, RunSpec, TapNic
from isola.runtimes.qemu.direct import Direct, arguments, text_of
from isola.runtimes.qemu.machine import Nic

MACHINE = Direct(
    "3f2a91c07b6d5e48", Path("/run/kernel"), None, "q35", "a b", "tcg", 128 << 20, nics=(Nic("is1", "0a:01", "nic0"),)
)
FIRST = TapNic(
    "is1", "0a:00:00:00:00:01", "eth0", inside=Inside(("10.9.8.7/20", "fd00::7/64"), ("10.9.0.1", "fd00::1"))
)
SPEC = RunSpec(
    "one", "web", Root(Path("/r")), (), nics=(FIRST, TapNic("is2", "0a:00:00:00:00:02", "eth1")), kernel=Kernel(),
    files={"/etc/resolv.conf": "search incus\nnameserver 10.9.0.1\nnameserver 9.9.9.9\n"},
)  # fmt: skip


def values(argv: list[str], option: str) -> list[str]:
    return [value for name, value in itertools.pairwise(argv) if name == option]


def test_it_waits_and_has_only_what_it_is_given() -> None:
    argv = arguments(MACHINE)
    assert {"-S", "-nodefaults", "-no-user-config"} <= set(argv)
    assert "spawn=deny" in values(argv, "-sandbox")[0]
    assert (values(argv, "-kernel"), values(argv, "-append"), values(argv, "-m")) == (
        ["/run/kernel"],
        ["a b"],
        ["128M"],
    )
    assert "-initrd" not in argv and "-bios" not in argv
    assert [device.split(",")[0] for device in values(argv, "-device")] == ["virtio-rng-pci", "virtio-net-pci"]
    assert "bus=" not in values(argv, "-device")[1]
    assert values(argv, "-netdev") == ["tap,id=tap-is1,fd=@nic0@"]


@pytest.mark.parametrize(
    ("machine", "kind"), [("q35", "virtio-net-pci"), ("pc", "virtio-net-pci"), ("microvm", "virtio-net-device")]
)
def test_devices_are_those_of_the_machine(machine: str, kind: str) -> None:
    argv = arguments(dataclasses.replace(MACHINE, machine=machine, initrd=Path("/run/initrd"), arguments=""))
    assert values(argv, "-machine")[0].startswith(f"{machine},")
    assert values(argv, "-device")[1].startswith(f"{kind},")
    assert values(argv, "-initrd") == ["/run/initrd"] and "-append" not in argv


def test_output_without_a_terminal_is_appended() -> None:
    (console,) = (
        each
        for each in values(arguments(dataclasses.replace(MACHINE, terminal=False)), "-chardev")
        if "console" in each
    )
    assert console == "file,id=console,path=/dev/fdset/1,append=on"


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("--ip={address}/{prefix}", "--gw", "{gateway}"), "--ip=10.9.8.7/20 --gw 10.9.0.1"),
        (("{netmask} {mac} {hostname} {nameserver}",), "255.255.240.0 0a:00:00:00:00:01 web 10.9.0.1"),
        (("[{address6}]/{prefix6} {gateway6} {mac.1}",), "[fd00::7]/64 fd00::1 0a:00:00:00:00:02"),
        (('{"net": {"if": "{address}"}}',), '{"net": {"if": "10.9.8.7"}}'),
        (("dhcp && chain http://${next-server}/${address}",), "dhcp && chain http://${next-server}/${address}"),
        ((), ""),
    ],
)
def test_arguments_get_what_the_network_knows(command: tuple[str, ...], text: str) -> None:
    assert text_of(dataclasses.replace(SPEC, command=command)) == text


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("{address.1}",), "not known for the NIC 'eth1'"),
        (("{address.2}",), "has 2 NICs"),
        (("a\nb",), "one line"),
        (("x" * 2049,), "2048"),
    ],
)
def test_arguments_without_a_value_are_refused(command: tuple[str, ...], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        text_of(dataclasses.replace(SPEC, command=command))


def test_a_missing_name_server_is_said() -> None:
    with pytest.raises(InvalidInput, match="nameserver"):
        text_of(dataclasses.replace(SPEC, command=("{nameserver}",), files={}))
