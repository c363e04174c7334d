"""Authorisation: permissions of callers."""

from __future__ import annotations

import logging

import pytest

from isola.access import Permission, refusal, refusal_of_shared
from isola.doors.http.refusals import Refusals
from isola.model.caller import DAEMON, UNTRUSTED, Caller, Credential
from isola.testing.clock import FakeClock

ADMIN = Caller(Credential.CERTIFICATE, "ab12", "192.0.2.1:4000")
BLUE = Caller(Credential.CERTIFICATE, "cd34", "192.0.2.2:4000", projects=frozenset({"blue"}))
NOWHERE = Caller(Credential.CERTIFICATE, "ef56", "192.0.2.3:4000", projects=frozenset())


@pytest.mark.parametrize("permission", Permission)
def test_unrestricted_callers_may_do_everything(permission: Permission) -> None:
    assert [refusal(caller, permission, "blue") for caller in (ADMIN, DAEMON)] == ["", ""]


@pytest.mark.parametrize("permission", [each for each in Permission if each is not Permission.GUEST])
def test_untrusted_callers_may_only_use_guest_routes(permission: Permission) -> None:
    assert refusal(UNTRUSTED, permission, "default")
    assert refusal(UNTRUSTED, Permission.GUEST, "default") == ""


@pytest.mark.parametrize("permission", [each for each in Permission if each.in_project])
def test_restricted_callers_may_do_everything_in_their_projects_only(permission: Permission) -> None:
    assert refusal(BLUE, permission, "blue") == ""
    assert "'default'" in refusal(BLUE, permission, "default")
    assert refusal(NOWHERE, permission, "blue") and refusal(NOWHERE, permission, "")


def test_restricted_callers_may_not_change_the_server() -> None:
    assert refusal(BLUE, Permission.ADMIN, "blue")
    assert refusal(BLUE, Permission.TRUSTED, "default") == refusal(NOWHERE, Permission.TRUSTED, "") == ""


async def test_refusals_are_logged_with_caller_and_path_but_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals(FakeClock())
    with caplog.at_level(logging.WARNING):
        refusals.note(BLUE, "GET", "/1.0/instances?secret=s3cr3t", "not allowed")
    [text] = [record.getMessage() for record in caplog.records]
    assert "cd34" in text and "192.0.2.2:4000" in text and "GET '/1.0/instances'" in text and "s3cr3t" not in text


async def test_a_flood_of_refusals_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    refusals = Refusals(clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            refusals.note(UNTRUSTED, "GET", "/1.0", "no\nforged line")
        written = len(caplog.records)
        await clock.advance(10)
        refusals.note(UNTRUSTED, "GET", "/1.0/\nforged", "no")
    assert written == 50
    assert "950 more before it" in caplog.records[-1].getMessage() and "\n" not in caplog.records[-1].getMessage()


def test_shared_resources_may_be_changed_by_callers_of_both_projects() -> None:
    both = Caller(Credential.CERTIFICATE, "ab", projects=frozenset({"blue", "default"}))
    assert refusal_of_shared(BLUE, "blue", "blue") == ""
    assert "shares" in refusal_of_shared(BLUE, "blue", "default")
    assert refusal_of_shared(both, "blue", "default") == refusal_of_shared(ADMIN, "blue", "default") == ""
