"""Names chosen by programs inside, in tables of the kernel: they cannot end a line or a field."""

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from isola.host import kernel
from isola.host.cgroups import parse_memberships
from isola.host.mount_table import MountTable
from isola.host.namespaces import parse_counters, parse_ipv6, parse_routes, plain

FORBIDDEN = {*range(9, 14), 0, ord(" "), ord("/"), ord(":"), 0xA0}
"""Bytes (not characters) that the kernel refuses in the name of an interface."""
LINK_NAMES = st.one_of(
    st.lists(st.sampled_from([byte for byte in range(256) if byte not in FORBIDDEN]), min_size=1, max_size=15).map(
        bytes
    ),
    st.sampled_from([name.encode() for name in ("e\x1cx", "e\u2028x", "\u2003x", "x\x1d", "\x85", "\x1f")]),
)


@given(LINK_NAMES)
def test_names_of_interfaces(name: bytes) -> None:
    numbers = b" ".join(b"%d" % number for number in range(16))
    found = list(parse_counters(plain(b"head\nhead\n    lo: %s\n%6s: %s\n" % (numbers, name, numbers))))
    assert [values for _, values in found] == [list(range(16))] * 2
    routes = parse_routes(plain(b"head\n%s\t0002010A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0  \n" % name))
    assert len(routes.connected) == (name != b"*"), "the kernel's mark of a route without an interface"
    line = b"fd000000000000000000000000000001 02 40 00 80 %8s\n" % name
    assert [address.address for _, address in parse_ipv6(plain(line))] == ["fd00::1"]


def test_harmless_names_are_unchanged() -> None:
    assert plain("größe eth0\n".encode()) == "größe eth0\n"


def test_names_of_control_groups() -> None:
    said = b"5:devices:/top/one\r4:memory:\xff\n1:name=systemd:/top/one\n0::/top/one/a\r0::/other\x1c\xe2\x80\xa8\n"
    found = parse_memberships(said)
    assert len(found) == 3 and found[frozenset()].startswith("/top/one/a")
    assert found[frozenset({"devices"})].startswith("/top/one")


def test_names_of_mount_points(tmp_path: Path) -> None:
    """The kernel does not escape carriage returns, and mount ids are predictable."""
    root, views = os.open("/", os.O_PATH), os.open("/proc", os.O_PATH)
    number = kernel.mount_of(views)
    table = tmp_path / "mountinfo"
    table.write_bytes(
        b"1 1 0:1 /x /x\r%d rw,relatime shared:5 - tmpfs fake rw\n%d 1 0:2 / /y rw - proc proc rw\n" % (number, number)
    )
    descriptor = os.open(table, os.O_RDONLY)
    try:
        mounts = MountTable(descriptor, root, trusted=True)
        assert mounts.mount(views, mounts.root).kind == "proc"
    finally:
        for each in (root, views, descriptor):
            os.close(each)
