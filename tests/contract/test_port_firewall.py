"""The contract of the firewall port: for the fake, and for Linux in a separate network namespace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from netns import fresh_namespace

from isola.errors import HostFailure
from isola.host.firewall import Firewall, LinuxFirewall
from isola.host.process import LinuxProcesses
from isola.testing.firewall import FakeFirewall

BODY = "chain forward {\n  type filter hook forward priority filter; policy accept;\n  accept\n}"


@pytest.fixture(params=["fake", "linux"])
def firewall(request: pytest.FixtureRequest) -> Iterator[Firewall]:
    """Each implementation in turn."""
    if request.param == "fake":
        yield FakeFirewall()
        return
    with fresh_namespace():
        yield LinuxFirewall(LinuxProcesses())


async def test_tables_are_created_replaced_and_deleted(firewall: Firewall) -> None:
    assert await firewall.tables() == ()
    await firewall.apply("isola/lab", BODY)
    await firewall.apply("isola/lab", BODY)
    await firewall.apply("isola-1a2b/lab", "")
    assert await firewall.tables() == ("isola-1a2b/lab", "isola/lab")
    assert await firewall.tables("isola/") == ("isola/lab",)
    await firewall.delete("isola/lab")
    await firewall.delete("isola/lab")
    assert await firewall.tables() == ("isola-1a2b/lab",)


async def test_tables_of_the_bridge_family_are_separate(firewall: Firewall) -> None:
    body = BODY.replace("priority filter", "priority -200")
    await firewall.apply("isola.0a", body, family="bridge")
    await firewall.apply("isola.0a", body, family="bridge")
    assert await firewall.tables(family="bridge") == ("isola.0a",) and await firewall.tables() == ()
    await firewall.delete("isola.0a")
    assert await firewall.tables("isola.", family="bridge") == ("isola.0a",)
    await firewall.delete("isola.0a", family="bridge")
    assert await firewall.tables(family="bridge") == ()


async def test_a_table_is_replaced_as_a_whole_or_not_at_all() -> None:
    with fresh_namespace():
        processes = LinuxProcesses()
        firewall = LinuxFirewall(processes)
        await firewall.apply("isola/lab", "chain old { }")
        with pytest.raises(HostFailure):
            await firewall.apply("isola/lab", "chain new { }\nchain broken { nonsense }")
        assert b"chain old" in (await processes.run(["nft", "list", "table", "inet", "isola/lab"])).stdout
        await firewall.apply("isola/lab", "chain new { }")
        listed = (await processes.run(["nft", "list", "table", "inet", "isola/lab"])).stdout
        assert b"chain new" in listed and b"chain old" not in listed


async def test_datagrams_to_unknown_targets_are_forgotten(firewall: Firewall) -> None:
    for address in ("10.1.2.3", "fd00::1"):
        await firewall.forget_datagrams(address, {53, 54})
