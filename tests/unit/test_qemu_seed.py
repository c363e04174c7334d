"""The disk that virtual machines get at each start."""

from __future__ import annotations

from fat_reader import read

from isola.runtimes.qemu.seed import disk


def test_it_has_the_texts_and_the_agent() -> None:
    agent = b"\x7fELF" + bytes(1 << 20)
    found = read(disk({"user-data": "#!/bin/sh\n", "isola/hostname": "web1\n"}, agent))
    assert found == {
        "user-data": b"#!/bin/sh\n",
        "meta-data": b"{}\n",
        "isola/hostname": b"web1\n",
        "isola/agent": agent,
    }


def test_cloud_init_finds_it_by_its_label() -> None:
    assert disk({}, b"")[43:54] == b"cidata     "
