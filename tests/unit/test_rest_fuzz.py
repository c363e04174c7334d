"""Fuzzing of all routes: no status 500, no response outside the API, and no missing response."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_door import Stand, standing
from yarl import URL

from isola.doors.rest.routing import all_routes

_KEYS = [
    "name", "config", "devices", "profiles", "description", "source", "type", "alias", "fingerprint", "action",
    "timeout", "force", "state", "command", "environment", "interactive", "width", "user", "target", "driver",
    "properties", "public", "expires_at", "aliases", "protocol", "server", "ephemeral", "start", "restore", "options",
]  # fmt: skip
_REAL = {
    "instances": "web1", "containers": "web1", "profiles": "default", "networks": "isolabr0",
    "storage-pools": "default", "projects": "default", "volumes": "container", "container": "web1",
}  # fmt: skip
_JUNK = ["nope", "..", "%00", "%ff", "%2e%2e%2f", "a" * 300, "", "eth0", "default"]
_NAMES = st.none() | st.none() | st.none() | st.sampled_from(_JUNK)
"""None represents the name of an existing object."""
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.sampled_from(["image", "none", "start", "stop", "build", "debian/12", "bridge", "overlay", "a\0b", "../x"]),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS) | st.text(max_size=5), inner),
    max_leaves=8,
)
_TEXTS = st.dictionaries(st.sampled_from(["user.a", "limits.cpu", "nonsense"]), st.text(max_size=5), max_size=2)
_SENSIBLE = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["web2", "p2", "br2", "a b"]),
        "config": _TEXTS,
        "properties": _TEXTS,
        "devices": st.dictionaries(st.just("eth0"), _TEXTS, max_size=1),
        "profiles": st.lists(st.just("default"), max_size=2),
        "source": st.sampled_from([{"type": "none"}, {"type": "image", "alias": "x", "protocol": "build"}]),
        "action": st.sampled_from(["start", "stop", "freeze", "unfreeze", "restart"]),
        "state": st.just({"action": "start"}),
        "command": st.just(["true"]),
        "driver": st.just("overlay"),
        "target": st.just("ffff"),
    },
)
_BODIES = st.one_of(
    _SENSIBLE.map(lambda value: json.dumps(value).encode()),
    _SENSIBLE.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=6).map(lambda value: json.dumps(value).encode()),
    _VALUES.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=100),
)
_QUERIES = st.dictionaries(
    st.sampled_from(["recursion", "filter", "project", "path", "force", "secret", "type", "all-projects", "target"]),
    st.sampled_from(["1", "2", "default", "", "x", "name eq web1", "/etc", "/", "a\0", "\xff", "not not", "a" * 2000]),
    max_size=2,
) | st.just({"path": "/a", "recursion": "1", "project": "default"})
_HEADER_NAMES = [
    "X-LXD-type", "X-LXD-uid", "X-LXD-mode", "X-LXD-write", "If-Match", "Content-Type", "Upgrade", "X-LXD-properties",
    "X-LXD-fingerprint", "X-LXD-filename", "X-LXD-aliases", "X-Incus-public", "Range",
]  # fmt: skip
_HEADER_VALUES = [
    "directory", "file", "symlink", "7", "-1", "0777", "append", "*", "websocket", "a=b", "bytes=5-1", "x" * 500,
    "application/json", "application/octet-stream", "multipart/form-data; boundary=b", "\xff\xfe", "%ff",
]  # fmt: skip
_HEADERS = st.dictionaries(st.sampled_from(_HEADER_NAMES), st.sampled_from(_HEADER_VALUES), max_size=3)
_ROUTES = [route for route in all_routes() if not route[1].endswith("/wait")]


def test_malformed_requests_get_an_error_of_the_api() -> None:
    with asyncio.Runner() as runner:
        context = standing()
        stand = runner.run(context.__aenter__())
        for name in ("web1", "db1"):
            runner.run(stand.create(name, start=name == "web1"))

        @settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(st.sampled_from(_ROUTES), st.lists(_NAMES, min_size=4, max_size=4), _QUERIES, _HEADERS, _BODIES)
        def ask(
            route: Any, names: list[str | None], query: dict[str, str], headers: dict[str, str], body: bytes
        ) -> None:
            url = _url(route[1], names, query)
            runner.run(_ask(stand, route[0], url, headers, body))

        try:
            ask()
        finally:
            runner.run(context.__aexit__(None, None, None))


def _url(path: str, names: list[str | None], query: dict[str, str]) -> URL:
    for name in names:
        head, brace, tail = path.partition("{")
        real = _REAL.get(head.strip("/").rpartition("/")[2], "x")
        path = head + (real if name is None else name) + tail.partition("}")[2] if brace else path
    return URL(f"http://isola{path}", encoded=True).with_query(query)


async def _ask(stand: Stand, method: str, url: URL, headers: dict[str, str], body: bytes) -> None:
    data = None if method == "GET" else body
    async with asyncio.timeout(60):
        try:
            async with stand.session.request(method, url, data=data, headers=headers) as answer:
                text = await answer.read()
        except aiohttp.ClientConnectionError:
            return  # the server may close the connection instead of reading the body
    assert answer.status not in (500, 502, 503), (method, url, text)
    if answer.headers.get("Content-Type", "").startswith("application/json"):
        assert json.loads(text)["type"] in ("sync", "async", "error")
    else:
        assert answer.status < 400
