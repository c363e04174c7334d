"""Instance types and the CPU time that an instance may use."""

from __future__ import annotations

import pytest
from rest_door import Stand

from isola.doors.rest.instance_types import limits_of
from isola.errors import Unsupported
from isola.model.limits import Limits


@pytest.mark.parametrize(
    ("type", "limits"),
    [
        ("", {}),
        ("c1", {"limits.cpu": "1"}),
        ("c0.5-m0.2", {"limits.cpu": "1", "limits.cpu.allowance": "50%", "limits.memory": "204MiB"}),
        ("c1.5-m4", {"limits.cpu": "2", "limits.cpu.allowance": "75%", "limits.memory": "4096MiB"}),
        ("m0.5", {"limits.memory": "512MiB"}),
        ("c0-m1", {"limits.memory": "1024MiB"}),
    ],
)
def test_a_type_stands_for_limits(type: str, limits: dict[str, str]) -> None:
    assert limits_of(type) == limits


@pytest.mark.parametrize("type", ["aws:t2.micro", "t2.micro", "c", "m", "c1m1", "c1-", "-m1", "c1-m1-m1", "c-1", "c١"])
def test_other_types_are_not_offered(type: str) -> None:
    with pytest.raises(Unsupported) as raised:
        limits_of(type)
    assert raised.value.field == "instance_type"


async def test_keys_of_the_request_precede_its_type(stand: Stand) -> None:
    body = {
        "name": "web9",
        "source": {"type": "none"},
        "instance_type": "c2-m1",
        "config": {"limits.memory": "64MiB"},
    }
    assert (await stand.ask("POST", "/1.0/instances?wait=10", body))[0] in (200, 202)
    config = (await stand.get("/1.0/instances/web9"))["config"]
    assert (config["limits.cpu"], config["limits.memory"]) == ("2", "64MiB")


@pytest.mark.parametrize(
    ("limits", "time"),
    [
        (Limits(), 4_000_000_000),
        (Limits(cpus=(0, 2)), 2_000_000_000),
        (Limits(cpus=(1,), cpu_time=(100_000, 200_000)), 500_000_000),
        (Limits(cpus=(1,), cpu_time=(200_000, 100_000)), 1_000_000_000),
        (Limits(vcpus=3), 3_000_000_000),
    ],
)
def test_cpu_time_of_a_second(limits: Limits, time: int) -> None:
    assert limits.cpu_ns_a_second(4) == time


async def test_the_state_of_a_running_instance_says_how_much_cpu_time_it_has(stand: Stand) -> None:
    await stand.create("db1")
    await stand.create("web1", start=True)
    web1 = (await stand.get("/1.0/instances/web1/state"))["cpu"]
    db1 = (await stand.get("/1.0/instances/db1/state"))["cpu"]
    cpus = len(stand.world.host.system.cpus())
    assert (web1["allocated_time"], db1["allocated_time"]) == (cpus * 1_000_000_000, 0)
