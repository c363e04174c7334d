"""Serialisation of run specs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from isola.host.link_kinds import Inside
from isola.model.confinement import Confinement
from isola.model.disk import Disk, DiskFormat
from isola.model.identity import IdRange
from isola.model.kernel import Kernel
from isola.model.limits import Limits
from isola.model.network import HostNetwork, HostTap, NetworkNamespace
from isola.runtimes import DeviceNode, Firmware, Log, Mount, Root, RootKind, RunSpec, Shareable, TapNic
from isola.runtimes.plan import decode, encode

LITTLE = RunSpec("one", "web", Root(Path("/r")), ("/sbin/init",))
FULL = RunSpec(
    id="one",
    hostname="web",
    root=Root(Path("/r"), RootKind.SHARED),
    command=("/bin/sh", "-c", "true"),
    idmap=IdRange(200000, 1000),
    environment={"A": "b"},
    cwd="/srv",
    user="web",
    groups=("audio", "7"),
    umask=0o27,
    system=True,
    stop_signal=37,
    limits=Limits((0, 3), 1 << 30, 7, True, (5, 6), 8, (0,), 9, None, 3, False, 11, ("/dev/vda read 1",), 2),
    tmpfs=5,
    shared_memory=4096,
    terminals=6,
    lxcfs=Path("/lxcfs"),
    network=NetworkNamespace(Path("/netns/one")),
    nics=(
        TapNic("is0", "0a:00:00:00:00:01", "eth0", 1400, Inside(("10.0.0.2/24",), ("10.0.0.1",), 7, onlink=True)),
        TapNic("is1", "0a:00:00:00:00:02", "eth1"),
    ),
    firmware=Firmware(secure_boot=False, tpm=True),
    seed={"user-data": "#cloud-config\n"},
    disks=(
        Disk("root", Path("/r/root.qcow2"), DiskFormat.QCOW2, Path("/r/disk.raw"), boot=3),
        Disk("cd", Path("/v/volume.raw"), read_only=True, cdrom=True),
    ),
    mounts=(Mount("/mnt", "/src", read_only=True, recursive=True, propagation="slave", options=("noexec",)),),
    files={"/etc/hosts": "127.0.0.1 localhost"},
    late_files=("/etc/hosts",),
    devices=(DeviceNode("/dev/fuse", "c", 10, 229, 0o666, 1, 2),),
    sysctls={"net.core.somaxconn": "1"},
    ulimits={"nofile": (1, -1)},
    shares={Shareable.PID: "other"},
    log=Log(kept=False, size=4096, files=3, fresh=False),
    host_namespaces=(Shareable.IPC,),
    terminal=False,
    console=(120, 40),
    stdin=True,
    stdin_once=False,
    confinement=Confinement(
        ("NET_ADMIN",), ("ALL",), True, "unconfined", ("/proc/keys",), (), ("c 10:200 rwm",), ("read",), ("/run",)
    ),
    kernel=Kernel("/boot/kernel", "/boot/initrd", "pc", "solo5"),
    oom_score_adj=500,
    host_stack=True,
    warm=True,
)


@pytest.mark.parametrize(
    "spec",
    [LITTLE, FULL, dataclasses.replace(LITTLE, network=HostTap(7)), dataclasses.replace(LITTLE, network=HostNetwork())],
)
def test_plans_are_read_back_unchanged(spec: RunSpec) -> None:
    assert decode(encode(spec)) == spec


def test_every_part_is_written() -> None:
    written, plain = json.loads(encode(FULL)), json.loads(encode(LITTLE))
    assert set(written) == {field.name for field in dataclasses.fields(RunSpec)}
    same = {name for name in written if written[name] == plain[name]}
    assert same == {"id", "hostname"}, "the test must set every field to a value other than its default"


def test_older_and_newer_daemons_read_each_other() -> None:
    known = {name: value for name, value in json.loads(encode(FULL)).items() if name not in ("ulimits", "terminal")}
    read = decode(json.dumps(known | {"colour": "blue"}).encode())
    assert read == dataclasses.replace(FULL, ulimits={}, terminal=True)


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{}", b'{"root": 1}', b'{"limits": [1]}', b"\xff"])
def test_malformed_plans_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode(data)
