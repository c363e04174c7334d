"""What a saved machine and the one that continues from it must have in common."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from isola.errors import WrongState
from isola.runtimes import TapNic
from isola.runtimes.qemu import machine, saving
from isola.runtimes.qemu.machine import Machine, Nic
from isola.runtimes.qemu.saving import Shape, State
from isola.testing.host import fake_host

MIB = 1 << 20
SHAPE = Shape("kvm", "Some CPU", 512 * MIB, 2, 6, terminal=False)
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


@pytest.mark.parametrize(
    ("shape", "qemu", "nics", "said"),
    [
        ({}, "10.1.0", NICS, "10.1.0"),
        ({}, "7.2.13", NICS, "10.0.13"),
        ({"processor": "Another CPU"}, "10.0.13", NICS, "Another CPU"),
        ({"accelerator": "tcg", "processor": ""}, "10.0.13", NICS, "tcg"),
        ({"memory": 1024 * MIB}, "10.0.13", NICS, "limits.memory was 512MiB"),
        ({"cpus": 1}, "10.0.13", NICS, "limits.cpu was 2"),
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
