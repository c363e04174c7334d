"""The kernel and first file system of guests in the environment of the tests: made again the same, and booted."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from isola.host.linux import linux_host
from isola.runtimes.agent.wire import Decoder, Frame, Greeting, Type, encode, hello
from isola.runtimes.qemu import engines, kit
from isola.runtimes.qemu.initramfs import Entry, archive, needs

AGENT = Path(__file__).parents[2] / "src/isola/agent"
STATS = b"\x06\x00"
_TIMEOUT = 60.0


def members(data: bytes) -> Iterator[Entry]:
    """What an archive of ours contains."""
    at = 0
    while True:
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = data[at + 110 : at + 110 + fields[11] - 1].decode()
        at += -(-(110 + fields[11]) // 4) * 4
        if name == "TRAILER!!!":
            return
        yield Entry(name, fields[1], data[at : at + fields[6]], (fields[9], fields[10]))
        at += -(-fields[6] // 4) * 4


@pytest.fixture(scope="module")
def found() -> kit.Kit:
    return kit.find()


def test_the_kit_is_whole(found: kit.Kit) -> None:
    assert found.damaged() == ()


def test_the_first_file_system_is_a_function_of_its_content(found: kit.Kit) -> None:
    data = found.initramfs.read_bytes()
    entries = list(members(data))
    assert archive(reversed(entries)) == data


def test_each_driver_is_loaded_after_what_it_needs(found: kit.Kit) -> None:
    content = {entry.path: entry.content for entry in members(found.initramfs.read_bytes())}
    listed = content["lib/modules/order"].decode().split()
    assert {"virtiofs.ko", "virtio_net.ko"} <= set(listed)
    for number, name in enumerate(listed):
        wanted = {f"{need}.ko" for need in needs(content[f"lib/modules/{name}"])}
        assert wanted & set(listed) <= set(listed[:number])


def test_the_agent_compiles_to_the_same_bytes_anywhere(tmp_path: Path) -> None:
    for name in ("one", "another"):
        place = tmp_path / name
        shutil.copytree(AGENT, place)
        subprocess.run(["make", "-s", "-C", place, f"OUT={place / 'agent'}"], check=True, timeout=60)
    assert (tmp_path / "one/agent").read_bytes() == (tmp_path / "another/agent").read_bytes()


@pytest.fixture(scope="module")
def agent(found: kit.Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[socket.socket]:
    """The channel to the agent of a guest that boots by emulation."""
    place = tmp_path_factory.mktemp("guest")
    programs = engines.find(linux_host())
    ours, its = socket.socketpair()
    arguments = [
        *programs.qemu,
        *(part for path in programs.data for part in ("-L", str(path))),
        *("-M", "microvm,pcie=on,isa-serial=on,rtc=on", "-bios", "qboot.rom"),
        *(
            "-accel",
            "tcg",
            "-cpu",
            "max",
            "-m",
            "128",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ),
        *("-kernel", str(found.kernel), "-initrd", str(found.initramfs), "-serial", f"file:{place / 'console'}"),
        *("-append", f"console=ttyS0 quiet reboot=t panic=-1 {clock()}"),
        *("-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,fd={its.fileno()}"),
        *("-device", "virtserialport,chardev=agent,name=org.isola.agent"),
    ]
    process = subprocess.Popen(arguments, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    its.close()
    ours.settimeout(1)
    try:
        yield ours
    finally:
        ours.close()
        process.kill()
        _, errors = process.communicate(timeout=120)
        print((place / "console").read_text(errors="replace")[-4096:], errors.decode(errors="replace"))


def clock() -> str:
    """What a kernel finds out by itself only with luck under emulation."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    khz = next(float(line.split(":")[1]) * 1000 for line in lines if line.startswith("cpu MHz"))
    return f"no_timer_check tsc_early_khz={khz:.0f} lpj={khz * 4:.0f}"


def test_the_kernel_boots_to_the_agent(agent: socket.socket) -> None:
    epoch = os.urandom(16)
    greeting = Greeting(epoch)
    end = time.monotonic() + _TIMEOUT
    agent.sendall(hello(epoch))
    while (answer := receive(agent, end, greeting)) is None:
        pass
    frame, tag, rest = answer
    assert frame.type is Type.HELLO
    agent.sendall(encode(Frame(Type.REQUEST, 1, STATS), tag))
    decoder = Decoder(tag)
    frames = list(decoder.feed(rest))
    while not frames:
        assert time.monotonic() < end
        frames += decoder.feed(agent.recv(1 << 16))
    assert (frames[0].type, frames[0].stream) == (Type.ANSWER, 1)


def receive(agent: socket.socket, end: float, greeting: Greeting) -> tuple[Frame, int, bytes] | None:
    try:
        return greeting.feed(agent.recv(1 << 16))
    except TimeoutError:
        assert time.monotonic() < end, "the agent does not answer"
        return None
