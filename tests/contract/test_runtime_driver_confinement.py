"""The contract of runtime drivers for what confines a program: capabilities, filters, limits, ids, paths."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from applications import application, has, status_of
from runtime_bench import IDMAP, Bench, shown

from isola.errors import Unsupported
from isola.model.confinement import Confinement
from isola.runtimes import Capability

_NET_RAW, _NET_ADMIN, _SYS_ADMIN, _CHOWN = 13, 12, 21, 0
GROUPS = "id -G; exec sleep 1234"
REFUSED = (
    '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}'
)


async def test_capabilities_are_added_and_dropped(bench: Bench) -> None:
    if not bench.real:
        return
    await bench.launch(application(bench, confinement=Confinement(("NET_ADMIN",), ("NET_RAW",))))
    assert await has(bench, _NET_ADMIN) and await has(bench, _CHOWN)
    assert not await has(bench, _NET_RAW) and not await has(bench, _SYS_ADMIN)


async def test_all_capabilities_are_those_of_the_daemon(bench: Bench) -> None:
    if not bench.real:
        return
    await bench.launch(application(bench, confinement=Confinement(("ALL",))))
    assert await has(bench, _SYS_ADMIN) and await has(bench, _NET_ADMIN)


async def test_no_privileges_are_added_by_files(bench: Bench) -> None:
    if not bench.real or not bench.has(Capability.FILTERS):
        return
    await bench.launch(application(bench, confinement=Confinement(no_new_privileges=True)))
    assert await status_of(bench, "NoNewPrivs") == "1"
    _, text, _ = await bench.run("grep", "NoNewPrivs", "/proc/self/status")
    assert text.split() == [b"NoNewPrivs:", b"1"]


@pytest.mark.parametrize(("seccomp", "mode"), [("", "2"), ("unconfined", "0"), (REFUSED, "2")])
async def test_the_filter_of_system_calls_is_the_one_asked_for(bench: Bench, seccomp: str, mode: str) -> None:
    if not bench.real:
        return
    if not bench.has(Capability.FILTERS):
        with pytest.raises(Unsupported):
            await bench.launch(application(bench, confinement=Confinement(seccomp=REFUSED)))
        return
    await bench.launch(application(bench, confinement=Confinement(seccomp=seccomp)))
    assert await status_of(bench, "Seccomp") == mode
    made = (await bench.run("sh", "-c", "mount -t tmpfs none /mnt"))[0] == 0
    assert not made  # by the filter, or by the lack of a capability


async def test_masked_and_read_only_paths(bench: Bench) -> None:
    if not bench.real:
        return
    if not bench.has(Capability.FILTERS):
        with pytest.raises(Unsupported):
            await bench.launch(application(bench, confinement=Confinement(masked=("/proc/version",))))
        return
    await bench.launch(
        application(bench, confinement=Confinement(("NET_ADMIN",), masked=("/proc/version",), read_only=()))
    )
    assert (await bench.run("cat", "/proc/version"))[1] == b""
    assert (await bench.run("sh", "-c", "echo 77 > /proc/sys/net/core/somaxconn"))[0] == 0


async def test_user_groups_and_permission_bits(bench: Bench) -> None:
    if not bench.real:
        return
    if not bench.has(Capability.FILTERS):
        with pytest.raises(Unsupported):
            await bench.launch(application(bench, umask=0o27))
        await bench.launch(application(bench, user="web", groups=("extra", "77"), command=("/bin/sh", "-c", GROUPS)))
        await shown(bench, lambda log: set(log.split()) == {b"34", b"50", b"77"})
        return
    await bench.launch(application(bench, user="web", groups=("extra", "77"), umask=0o27))
    assert set((await status_of(bench, "Groups")).split()) == {"34", "50", "77"}, "its own group is one of them"
    assert await status_of(bench, "Umask") == "0027"


async def test_limits_of_resources_are_set_or_refused_with_the_reason(bench: Bench) -> None:
    if not bench.real:
        return
    able = "CAP_SYS_RESOURCE" in bench.host.system.capabilities()
    most = bench.host.system.resource_limit("nofile")
    assert most > 600
    if able or bench.param == "crun":
        await bench.launch(application(bench, ulimits={"nofile": (500, 600)}))
        assert (await bench.run("sh", "-c", "ulimit -n; ulimit -Hn"))[1] == b"500\n600\n"
        await bench.runtime.remove("one")
    if not able:
        with pytest.raises(Unsupported, match="cannot"):
            await bench.launch(application(bench, ulimits={"nofile": (500, most + 1)}))
        assert await bench.runtime.owned() == ()


async def test_the_shared_memory_has_its_size(bench: Bench) -> None:
    if not bench.real:
        return
    await bench.launch(application(bench, shared_memory=65536))
    assert (await bench.run("dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1k", "count=200"))[0] != 0
    assert (await bench.run("sh", "-c", "wc -c < /dev/shm/x"))[1].strip() == b"65536"


async def test_processes_may_be_killed_earlier(bench: Bench) -> None:
    if not bench.real or not bench.has(Capability.FILTERS):
        return
    await bench.launch(application(bench, oom_score_adj=500))
    assert (await bench.run("cat", "/proc/1/oom_score_adj"))[1] == b"500\n"


async def test_a_read_only_root_is_so_for_the_program(bench: Bench) -> None:
    if not bench.real:
        return
    root = replace(bench.spec().root, read_only=True)
    await bench.launch(application(bench, root=root))
    assert (await bench.run("sh", "-c", "echo x > /etc/new"))[0] != 0
    assert (await bench.run("sh", "-c", "echo x > /dev/shm/new"))[0] == 0
    await bench.runtime.remove("one")
    await bench.launch(application(bench))
    assert (await bench.run("sh", "-c", "echo x > /etc/new && rm /etc/new || true"))[0] == 0


async def test_files_of_the_run_hide_those_of_the_root(bench: Bench) -> None:
    if not bench.real:
        return
    files = {"/etc/passwd": "root:x:0:0::/root:/bin/sh\n", "/etc/new/hosts": "192.0.2.1 db\n"}
    await bench.launch(application(bench, files=files))
    assert (await bench.run("cat", "/etc/passwd", "/etc/new/hosts"))[1].decode() == "".join(files.values())
    assert (await bench.run("sh", "-c", "ls -ln /etc/new/hosts | grep -c '^-rw-r--r--    1 0        0'"))[1] == b"1\n"
    assert (await bench.run("sh", "-c", "echo more >> /etc/new/hosts && cat /etc/new/hosts"))[1].endswith(b"more\n")
    await bench.runtime.remove("one")
    async with bench.host.files.root(bench.root, idmap=IDMAP) as root:
        assert (await root.stat("/etc/new/hosts")).size == 0
        for path in ("/etc/new/hosts", "/etc/new"):
            await root.remove(path)


async def test_a_link_of_the_image_in_their_place_does_not_lead_out(bench: Bench) -> None:
    if not bench.real:
        return
    outside = bench.directory / "outside"
    link = bench.root / "etc/names"
    link.symlink_to(f"../../../../../../..{outside}")
    os.lchown(link, IDMAP.base, IDMAP.base)
    try:
        await bench.launch(application(bench, files={"/etc/names": "text\n"}))
        assert (await bench.run("cat", "/etc/names"))[1] == b"text\n"
        assert not await bench.host.files.exists(outside)
    finally:
        link.unlink()
        await bench.runtime.remove("one")
        await bench.host.files.remove_tree(bench.root / outside.parts[1])
    (bench.root / "tmp").mkdir(exist_ok=True)
    os.chown(bench.root / "tmp", IDMAP.base, IDMAP.base)
