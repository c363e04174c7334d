"""The human-readable output of ``monitor``."""

from typing import Any, cast

import pytest

from isola.cli.commands.monitor import Pretty
from isola.client.shapes import EventInfo


def operation(
    status: str = "Running", code: int = 103, *, id: str = "a", done: int | None = None, **more: Any
) -> EventInfo:
    step = {"name": "Unpack image", "done": done, "total": 100, "finished": False}
    about = {
        "id": id, "status": status, "status_code": code, "description": "Creating instance",
        "resources": {"instances": ["/1.0/instances/web1"], "containers": ["/1.0/instances/web1"]},
        "metadata": {"progress": [step]} if done is not None else None, "err": "",
    }  # fmt: skip
    event = {"type": "operation", "timestamp": "2026-01-01T10:11:12.345678Z", "metadata": about | more}
    return cast(EventInfo, event)


def test_an_operation_is_named_with_its_instance_its_step_and_how_far_it_is() -> None:
    line = Pretty().line(operation(done=43))
    assert line == "10:11:12.345 operation Running: Creating instance web1: Unpack image 43%\n"


def test_an_unchanged_report_of_an_operation_prints_nothing() -> None:
    pretty = Pretty()
    lines = [pretty.line(operation(done=done)) for done in (1, 1, 1, 2)]
    lines += [pretty.line(operation("Success", 200)), pretty.line(operation(id="b"))]
    assert [bool(line) for line in lines] == [True, False, False, True, True, True]


def test_a_failure_shows_its_reason() -> None:
    line = Pretty().line(operation("Failure", 400, err="The disk is full", done=5))
    assert line.endswith("Failure: Creating instance web1: The disk is full\n")


def test_lifecycle_events_name_what_they_are_about() -> None:
    event = {
        "type": "lifecycle",
        "timestamp": "",
        "metadata": {"action": "instance-started", "source": "/1.0/instances/web1"},
    }
    assert Pretty().line(cast(EventInfo, event)).split() == ["lifecycle", "instance-started", "instances/web1"]


@pytest.mark.parametrize(
    ("time", "shown"),
    [
        ("2026-01-01T10:00:00.123456Z", "10:00:00.123"),
        ("2026-01-01T10:00:00.1Z", "10:00:00.100"),
        ("2026-01-01T10:00:00Z", "10:00:00.000"),
    ],
)
def test_times_of_events_have_three_digits_of_a_second(time: str, shown: str) -> None:
    event = {"type": "lifecycle", "timestamp": time, "metadata": {"action": "a", "source": "/1.0/instances/web1"}}
    assert Pretty().line(cast(EventInfo, event)).split()[0] == shown
