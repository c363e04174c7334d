"""Routes: lookup, completeness, and permissions."""

from __future__ import annotations

from pathlib import Path

import pytest

from isola.doors.rest.not_offered import MethodNotAllowed
from isola.doors.rest.reference import page
from isola.doors.rest.routing import Permission, Router, all_routes
from isola.errors import InvalidInput, NotFound, Unsupported

_CHECKED_INSIDE = {"/1.0/operations/{id}", "/1.0/certificates", "/1.0/certificates/{fingerprint}"}
"""Handlers check these themselves: by the operation's project, the client's own certificate, or a token."""


async def _handler(request: object) -> object:
    return request


def _router() -> Router:
    routes = [
        ("GET", "/1.0/images", _handler, Permission.VIEW),
        ("GET", "/1.0/images/{fingerprint}", _handler, Permission.GUEST),
        ("GET", "/1.0/images/aliases", _handler, Permission.VIEW),
        ("DELETE", "/1.0/images/aliases/{name...}", _handler, Permission.EDIT),
    ]
    return Router(routes)  # type: ignore[arg-type]


def test_finds_the_most_literal_route_and_decodes_parameters() -> None:
    router = _router()
    assert router.find("GET", "/1.0/images/aliases")[2] == {}
    assert router.find("GET", "/1.0/images/ab%20c")[1:] == (Permission.GUEST, {"fingerprint": "ab c"})
    assert router.find("DELETE", "/1.0/images/aliases/debian/12")[2] == {"name": "debian/12"}
    assert router.find("DELETE", "/1.0/images/aliases/debian%2F12")[2] == {"name": "debian/12"}
    assert router.find("HEAD", "/1.0/images/")[1] is Permission.VIEW


@pytest.mark.parametrize("path", ["/", "/1.0", "/2.0", "/1.0/images/a/b", "/1.0/IMAGES"])
def test_unknown_paths_are_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        _router().find("GET", path)


def test_unknown_methods_name_those_that_are_known() -> None:
    for method, kind in (("POST", Unsupported), ("PROPFIND", MethodNotAllowed)):
        with pytest.raises(kind) as caught:
            _router().find(method, "/1.0/images")
        assert "GET" in caught.value.remedy


@pytest.mark.parametrize("part", ["%ff", "a%00b"])
def test_parameters_with_invalid_utf8_are_refused(part: str) -> None:
    with pytest.raises(InvalidInput):
        _router().find("GET", f"/1.0/images/{part}")


def test_every_route_is_found_described_and_permitted() -> None:
    routes = all_routes()
    router = Router(routes)
    assert len(routes) > 100
    for method, path, handler, permission in routes:
        found = router.find(method, path.replace("{", "x").replace("...}", "").replace("}", ""))
        assert found[:2] == (handler, permission)
        assert handler.__doc__
        if method != "GET":
            assert permission in (Permission.OPERATE, Permission.EDIT, Permission.ADMIN) or path in _CHECKED_INSIDE


def test_the_reference_page_is_up_to_date() -> None:
    written = Path(__file__).parents[2] / "docs" / "reference" / "rest-api.md"
    assert written.read_text() == page(), "run: python -m isola.doors.rest.reference > docs/reference/rest-api.md"
