"""Variables about linked instances, as Docker sets them."""

from __future__ import annotations

import pytest

from isola.instances.linking import variables_of
from isola.instances.run_values import link, link_ports


def test_address_ports_and_variables_of_the_other_are_told() -> None:
    found = variables_of("my-db", "/web/my-db", "10.1.2.3", ((5432, "tcp"),), {"USER": "me", "PATH": "/", "HOME": "/"})
    assert found == {
        "MY_DB_NAME": "/web/my-db",
        "MY_DB_PORT": "tcp://10.1.2.3:5432",
        "MY_DB_PORT_5432_TCP": "tcp://10.1.2.3:5432",
        "MY_DB_PORT_5432_TCP_ADDR": "10.1.2.3",
        "MY_DB_PORT_5432_TCP_PORT": "5432",
        "MY_DB_PORT_5432_TCP_PROTO": "tcp",
        "MY_DB_ENV_USER": "me",
    }


def test_the_lowest_port_is_the_first_and_tcp_before_udp() -> None:
    found = variables_of("a", "/b/a", "10.1.2.3", ((80, "tcp"), (53, "udp"), (53, "tcp")), {})
    assert found["A_PORT"] == "tcp://10.1.2.3:53" and found["A_PORT_53_UDP"] == "udp://10.1.2.3:53"
    assert not [name for name in found if name.endswith(("_START", "_END"))]


def test_neighbours_are_a_range_too() -> None:
    found = variables_of("a", "/b/a", "fd42::3", ((81, "tcp"), (80, "tcp"), (90, "tcp")), {})
    assert (found["A_PORT_80_TCP_START"], found["A_PORT_80_TCP_END"]) == ("tcp://[fd42::3]:80", "tcp://[fd42::3]:81")
    assert (found["A_PORT_80_TCP_PORT_START"], found["A_PORT_80_TCP_PORT_END"]) == ("80", "81")
    assert "A_PORT_90_TCP_START" not in found and found["A_PORT_90_TCP_ADDR"] == "fd42::3"


def test_without_ports_there_is_the_name_alone() -> None:
    assert variables_of("a", "/b/a", "10.1.2.3", (), {}) == {"A_NAME": "/b/a"}


def test_ports_of_links_are_checked() -> None:
    assert link_ports("5432/tcp, 53/udp") == ((5432, "tcp"), (53, "udp")) and link_ports("none") == ()
    for wrong in ("", "x", "80", "80/icmp", "0/tcp", "65536/tcp", ",".join(["80/tcp"] * 257)):
        with pytest.raises(ValueError, match="expected"):
            link_ports(wrong)
    link("my-db")
    with pytest.raises(ValueError, match="expected"):
        link("my db")
