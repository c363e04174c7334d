"""Schedules, periods and names of snapshots."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from isola.model.schedule import at_startup, next_name, parse_pattern, parse_period, parse_schedule

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)  # a Sunday


@pytest.mark.parametrize(
    ("text", "due", "not_due"),
    [
        ("0 12 * * *", NOON, NOON.replace(minute=1)),
        ("*/15 * * * *", NOON.replace(minute=45), NOON.replace(minute=50)),
        ("5/20 * * * *", NOON.replace(minute=25), NOON.replace(minute=20)),
        ("0 9-17 * * mon-fri", NOON + timedelta(days=1), NOON),
        ("0 12 * * 7", NOON, NOON + timedelta(days=1)),
        ("0 12 1 mar *", NOON, NOON + timedelta(days=1)),
        ("0 12 13 * sun", NOON, NOON + timedelta(days=1)),
        ("0,30 12,13 * * *", NOON.replace(hour=13, minute=30), NOON.replace(minute=15)),
        ("@hourly", NOON, NOON.replace(minute=30)),
        ("@daily", NOON.replace(hour=0), NOON),
        ("@weekly", NOON.replace(hour=0), NOON.replace(hour=0) + timedelta(days=1)),
        ("@monthly", NOON.replace(hour=0), NOON.replace(hour=0, day=2)),
        ("@yearly", datetime(2026, 1, 1, tzinfo=UTC), NOON.replace(hour=0)),
        ("@daily, @hourly", NOON, NOON.replace(minute=30)),
        ("@daily,@hourly", NOON, NOON.replace(minute=30)),
        ("@startup, 10 5,12-14/2 * * *", NOON.replace(minute=10), NOON.replace(hour=13, minute=10)),
        ("0 5 * * *, 0 12 * * *", NOON, NOON.replace(hour=0)),
    ],
)
def test_schedules(text: str, due: datetime, not_due: datetime) -> None:
    crons = parse_schedule(text)
    assert any(cron.matches(due) for cron in crons)
    assert not any(cron.matches(not_due) for cron in crons)


@pytest.mark.parametrize(
    ("text", "at"),
    [("@startup", True), ("@daily, @Startup", True), ("0 5 * * *, @startup", True), ("@daily", False), ("", False)],
)
def test_starts_are_occasions_where_a_schedule_says_so(text: str, at: bool) -> None:
    assert at_startup(text) is at


@pytest.mark.parametrize("text", ["", "@never", "@startup", "@startup, @never"])
def test_schedules_that_are_never_due(text: str) -> None:
    assert parse_schedule(text) == ()


@pytest.mark.parametrize(
    "text",
    ["* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *",
     "0 5 * * *, 0", "@startup, soon", "0 5 * * *,0 12 * * *",
     "a * * * *", "5-1 * * * *", "-1 * * * *", "@sometimes", "1e3 * * * *", "* * * jan-x *", "٣ * * * *"],
)  # fmt: skip
def test_invalid_schedules(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_schedule(text)


def test_schedules_are_short() -> None:
    """They are read every minute, for anyone who may configure an instance."""
    every = ", ".join(f"{minute} {hour} * * *" for minute in range(60) for hour in range(24))
    for text in (every, "0," * 3000 + "0 * * * *"):
        with pytest.raises(ValueError, match="at most 4096"):
            parse_schedule(text)


def test_periods() -> None:
    assert parse_period("1M 2H 3d 4w") == timedelta(minutes=1, hours=2, days=3 + 28)
    assert parse_period("1m 1y") == timedelta(days=30 + 365)
    assert parse_period("") is None
    for wrong in ("1", "d", "1 d", "1D", "-1d", "999999y", "1d2w", "1M " * 30):
        with pytest.raises(ValueError, match=r"."):
            parse_period(wrong)


def test_names() -> None:
    assert next_name("", [], NOON) == "snap0"
    assert next_name("snap%d", ["snap0", "snap7", "snapshot9", "x"], NOON) == "snap8"
    assert next_name("{{ creation_date }}", [], NOON) == "2026-03-01_12-00-00"
    assert next_name("{{creation_date|date:'2006-01-02_15-04'}}", [], NOON) == "2026-03-01_12-00"
    assert next_name("nightly", ["nightly", "nightly-0"], NOON) == "nightly-1"
    for wrong in ("a/b", "%d%d", "%s", "{{ name }}", "a b", "x" * 65):
        with pytest.raises(ValueError, match=r"."):
            parse_pattern(wrong)
    for right in ("snap%d", "{{ creation_date|date:'2006-01-02' }}-%d", "a.b_c-1"):
        assert parse_pattern(right) == right
