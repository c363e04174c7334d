"""Files by which a program finds names: its own, those of its networks, those that its user gives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isola.errors import InvalidInput
from isola.instances.expand import validate
from isola.instances.name_files import HOSTNAME, HOSTS, RESOLVER, Surroundings, files_of, shown
from isola.model.instance import Instance
from isola.model.program import Program
from isola.testing.parts import World

ON_NETWORK = Surroundings("web", ("10.1.2.3", "fd42::3"), ("10.1.2.1", "fd42::1"), ("isola",))
ALONE = Surroundings(
    "web", resolver="# of the host\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nsearch example.org\n"
)
APPLICATION = Program(arguments=("/bin/app",))


def lines(text: str) -> list[str]:
    return text.splitlines()


def test_on_a_network_names_come_from_there() -> None:
    files = files_of({}, ON_NETWORK)
    assert lines(files[RESOLVER]) == ["nameserver 10.1.2.1", "nameserver fd42::1", "search isola"]
    assert lines(files[HOSTS])[-2:] == ["10.1.2.3\tweb", "fd42::3\tweb"]
    assert "127.0.0.1\tlocalhost" in lines(files[HOSTS]) and files[HOSTNAME] == "web\n"


def test_without_one_they_come_from_the_host_as_far_as_it_can_be_reached() -> None:
    files = files_of({}, ALONE)
    assert lines(files[RESOLVER]) == ["# of the host", "nameserver 192.0.2.53", "search example.org"]
    assert lines(files[HOSTS])[-1] == "127.0.1.1\tweb"
    assert lines(files_of({"isola.dns.options": "ndots:1"}, ALONE)[RESOLVER]) == [
        "nameserver 192.0.2.53",
        "options ndots:1",
    ]


def test_the_user_s_servers_domains_and_options_replace_them() -> None:
    keys = {
        "isola.dns.servers": "192.0.2.1, 2001:db8::1",
        "isola.dns.search": "a.org,b.org",
        "isola.dns.options": "rotate",
    }
    expected = ["nameserver 192.0.2.1", "nameserver 2001:db8::1", "search a.org b.org", "options rotate"]
    assert lines(files_of(keys, ON_NETWORK)[RESOLVER]) == expected
    assert "search" not in files_of({"isola.dns.search": "."}, ON_NETWORK)[RESOLVER]


def test_further_hosts_and_the_host_itself_have_names() -> None:
    hosts = lines(files_of({"isola.hosts": "db=192.0.2.7,me=host-gateway,six=2001:db8::7"}, ON_NETWORK)[HOSTS])
    assert {"192.0.2.7\tdb", "10.1.2.1\tme", "fd42::1\tme", "2001:db8::7\tsix"} <= set(hosts)


def test_names_of_other_instances_have_their_addresses_or_are_missing() -> None:
    found = replace(ON_NETWORK, others={"container:shop-db": ("10.1.2.9", "fd42::9")})
    hosts = lines(files_of({"isola.hosts": "db=container:shop-db,old=container:gone"}, found)[HOSTS])
    assert {"10.1.2.9\tdb", "fd42::9\tdb"} <= set(hosts) and not any("old" in line for line in hosts)


@pytest.mark.parametrize(
    ("hostname", "keys"),
    [("web.example.org", {}), ("web", {"isola.domainname": "example.org"})],
    ids=["name", "domain"],
)
def test_a_domain_precedes_the_short_name(hostname: str, keys: dict[str, str]) -> None:
    files = files_of(keys, Surroundings(hostname, ("10.1.2.3",)))
    assert lines(files[HOSTS])[-1] == "10.1.2.3\tweb.example.org web" and files[HOSTNAME] == f"{hostname}\n"


@pytest.mark.parametrize(
    "text",
    [
        "isola.hosts=db",
        "isola.hosts=db=x",
        "isola.hosts=a b=192.0.2.7",
        "isola.hosts=db=192.0.2.7\n192.0.2.8 other",
        "isola.dns.servers=dns.example.org",
        "isola.dns.search=a b",
        "isola.dns.options=ndots:2\nnameserver 192.0.2.1",
        "isola.domainname=a/b",
    ],
)
def test_what_would_spoil_a_file_is_refused(text: str) -> None:
    key, _, value = text.partition("=")
    with pytest.raises(InvalidInput):
        validate({key: value}, {})


def of(world: World, made: Instance) -> dict[str, str]:
    return dict(world.runtime.instances[made.id].spec.files)


async def test_only_application_containers_get_them(world: World) -> None:
    system = await world.create("web1", start=True)
    assert of(world, system) == {}
    files = of(world, await world.create("web2", program=APPLICATION, config={"isola.hostname": "two"}, start=True))
    assert set(files) == {HOSTS, RESOLVER, HOSTNAME} and files[HOSTNAME] == "two\n"
    address = next(nic for nic in world.context.nics.of(world.context.records.get(system.ref))).state.facts["ipv4"]
    assert address.rpartition(".")[0] in files[RESOLVER]


async def test_another_instance_is_found_by_name_and_by_id(world: World) -> None:
    db = await world.create("db1", start=True)
    address = next(nic for nic in world.context.nics.of(world.context.records.get(db.ref))).state.facts["ipv4"]
    names = f"one=container:db1,two=container:{db.id},three=container:gone"
    files = of(world, await world.create("web1", program=APPLICATION, config={"isola.hosts": names}, start=True))
    assert {f"{address}\tone", f"{address}\ttwo"} <= set(lines(files[HOSTS])) and "three" not in files[HOSTS]


def test_disks_replace_files_in_their_place_and_files_within_them_are_mounted_late() -> None:
    files = {HOSTS: "a", HOSTNAME: "b"}
    root, etc, hosts = ({"type": "disk", "path": path} for path in ("/", "etc/", "/etc/hosts"))
    assert shown(files, {"root": root, "eth0": {"type": "nic"}, "sda": {"type": "disk"}}) == (files, ())
    assert shown(files, {"etc": etc}) == (files, (HOSTS, HOSTNAME))
    assert shown(files, {"etc": etc, "hosts": hosts}) == ({HOSTNAME: "b"}, (HOSTNAME,))
    assert shown(files, {"near": {"type": "disk", "path": "/etc/host"}}) == (files, ())
