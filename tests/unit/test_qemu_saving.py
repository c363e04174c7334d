"""What a saved machine and the one that continues from it must have in common."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from isola.errors import WrongState
from isola.runtimes import TapNic
from isola.runtimes.qemu import machine, saving
from isola.runtimes.qemu.machine import BOARD, Machine, Nic
from isola.runtimes.qemu.saving import Shape, State
from isola.testing.host import fake_host

MIB = 1 << 20
SHAPE = Shape("kvm", "Some CPU", 512 * MIB, 2, 6, terminal=False, most_memory=2048 * MIB, most_cpus=4, machine=BOARD)
STATE = State("10.0.13", SHAPE, [(0, "0a:69:73:00:00:01"), (3, "0a:69:73:00:00:02")])
NICS = tuple(TapNic(f"is{number}", f"0A:69:73:00:00:0{number}", f"eth{number}") for number in (1, 2, 3))
TODAY = Machine(
    id="one",
    kernel=Path("/kit/vmlinuz"),
    initramfs=Path("/kit/initramfs"),
    accelerator="kvm",
    memory=256 * MIB,
    cpus=2,
    nics=tuple(Nic(nic.link, nic.mac, f"nic{number}") for number, nic in enumerate(NICS)),
    terminal=False,
)


def test_a_machine_continues_as_it_was_saved_and_the_rest_follows() -> None:
    saving.require_fit(STATE, saving.shape_of(TODAY, "Some CPU"), "10.0.14", NICS)
    made = saving.continued(TODAY, STATE)
    assert (made.memory, made.ports, made.incoming) == (512 * MIB, 6, True)
    assert [(nic.link, nic.slot) for nic in made.nics] == [("is1", 0), ("is2", 3)]
    assert saving.later(STATE, NICS) == NICS[2:]
    text = " ".join(machine.arguments(made))
    assert "-incoming defer -S" in text and "bus=port3" in text and "bus=port1" not in text


def test_requests_for_files_are_announced_as_they_were_when_it_was_saved() -> None:
    assert saving.shape_of(TODAY, "Some CPU").announced
    for announced in (False, True):
        state = dataclasses.replace(STATE, shape=dataclasses.replace(SHAPE, announced=announced))
        made = machine.arguments(saving.continued(TODAY, state))
        assert ("vhost-user-fs-pci,chardev=files,tag=root,event_idx=off" in made) is announced


@pytest.mark.parametrize(
    ("shape", "qemu", "nics", "said"),
    [
        ({}, "10.1.0", NICS, "10.1.0"),
        ({}, "7.2.13", NICS, "10.0.13"),
        ({"processor": "Another CPU"}, "10.0.13", NICS, "Another CPU"),
        ({"accelerator": "tcg", "processor": ""}, "10.0.13", NICS, "tcg"),
        ({"memory": 1024 * MIB}, "10.0.13", NICS, "limits.memory was 512MiB"),
        ({"cpus": 1}, "10.0.13", NICS, "limits.cpu was 2"),
        ({"machine": "pc"}, "10.0.13", NICS, "the machine was q35"),
        ({"terminal": True}, "10.0.13", NICS, "terminal"),
        ({}, "10.0.13", NICS[1:], "0a:69:73:00:00:01"),
    ],
)
def test_what_cannot_follow_is_refused_with_the_way_out(
    shape: dict[str, object], qemu: str, nics: tuple[TapNic, ...], said: str
) -> None:
    today = dataclasses.replace(SHAPE, **shape)  # type: ignore[arg-type]
    with pytest.raises(WrongState) as refused:
        saving.require_fit(STATE, today, qemu, nics)
    assert said in f"{refused.value.message} {refused.value.evidence}"
    assert "without its state" in refused.value.remedy


@pytest.mark.parametrize(
    ("wanted", "reached"),
    [
        ({"memory": 2048 * MIB, "cpus": 4}, (512 * MIB, 2)),
        ({"memory": 128 * MIB, "cpus": 1}, (512 * MIB, 2)),
        ({"memory": 4096 * MIB, "cpus": 5}, (4096 * MIB, 5)),
    ],
)
def test_memory_and_cpus_that_it_can_get_while_it_runs_are_no_difference(
    wanted: dict[str, int], reached: tuple[int, int]
) -> None:
    shape = saving.reachable(STATE, dataclasses.replace(SHAPE, **wanted))  # type: ignore[arg-type]
    assert (shape.memory, shape.cpus) == reached
    made = saving.continued(TODAY, STATE)
    assert (made.most_memory, made.most_cpus) == (2048 * MIB, 4)


def test_microvms_of_earlier_versions_were_other_machines() -> None:
    old = dataclasses.replace(STATE, shape=dataclasses.replace(SHAPE, machine=""))
    with pytest.raises(WrongState, match="other microVMs"):
        saving.require_fit(old, SHAPE, "10.0.13", NICS)


def test_an_emulated_processor_does_not_depend_on_the_hosts() -> None:
    emulated = dataclasses.replace(TODAY, accelerator="tcg")
    assert saving.shape_of(emulated, "One").processor == saving.shape_of(emulated, "Another").processor == ""


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"qemu": "10.0", "shape": {}, "nics": []}', None])
async def test_what_is_incomplete_is_no_state(text: str | None) -> None:
    host, images = fake_host(), Path("/images")
    await host.files.make_directory(images)
    await host.files.write(images / saving.MEMORY, b"memory")
    if text is not None:
        await host.files.write(images / saving.STATE, text.encode())
    with pytest.raises(WrongState, match="not complete"):
        await saving.read(host, images)
    await host.files.write(images / saving.STATE, json.dumps(dataclasses.asdict(STATE)).encode())
    assert await saving.read(host, images) == dataclasses.replace(STATE, nics=[(slot, mac) for slot, mac in STATE.nics])
    await host.files.remove_tree(images / saving.MEMORY)
    with pytest.raises(WrongState, match="not complete"):
        await saving.read(host, images)
