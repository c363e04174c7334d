"""Instances over the door."""

from __future__ import annotations

import pytest
from heard import lifecycle
from rest_door import Stand

from isola.model.event import EventKind
from isola.model.reference import Ref
from isola.testing.tree import Node


@pytest.fixture
async def two_instances(stand: Stand) -> Stand:
    for name, runs in (("db1", False), ("web1", True)):
        await stand.create(name, start=runs, config={"user.role": name})
    return stand


async def test_create_and_start_is_one_operation(stand: Stand) -> None:
    body = {
        "name": "web1",
        "source": {"type": "image", "alias": "debian/12"},
        "config": {"limits.cpu": 2},
        "devices": {"eth0": {"type": "nic", "network": "isolabr0"}},
        "profiles": None,
        "start": True,
        "description": "front",
    }
    ended = await stand.finish("POST", "/1.0/instances", body)
    assert (ended["status"], ended["err"], ended["class"]) == ("Success", "", "task")
    assert ended["resources"]["instances"] == ["/1.0/instances/web1"]
    steps = [step["name"] for step in ended["metadata"]["progress"]]
    assert (steps[0], steps[-1]) == ("Install packages", "Start program") and all(
        step["finished"] for step in ended["metadata"]["progress"]
    )
    shown = await stand.get("/1.0/instances/web1")
    assert (shown["status"], shown["config"]["limits.cpu"], shown["profiles"]) == ("Running", "2", ["default"])
    assert shown["expanded_devices"].keys() == {"root", "eth0"}


async def test_a_program_in_place_of_the_image_s(stand: Stand) -> None:
    program = {
        "entrypoint": ["/bin/run"],
        "arguments": ["-v", "a b"],
        "cwd": "/srv",
        "user": "33:33",
        "stop_signal": "SIGQUIT",
        "stop_timeout": -1,
    }
    body = {"name": "web1", "source": {"type": "image", "alias": "tiny"}, "program": program, "terminal": False}
    await stand.finish("POST", "/1.0/instances", body)
    shown = (await stand.get("/1.0/instances/web1"))["program"]
    assert shown == {**program, "terminal": False}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "a", "source": {"type": "none"}, "program": []}, "program"),
        ({"name": "a", "source": {"type": "none"}, "program": {"entrypoint": "x"}}, "program.entrypoint"),
        ({"name": "a", "source": {"type": "none"}, "program": {"stop_timeout": -2}}, "program.stop_timeout"),
        ({"name": "a", "source": {"type": "none"}, "program": {"cwd": "x"}}, "program.cwd"),
        ({"name": "web1"}, "source.type"),
        ({"name": 7, "source": {"type": "none"}}, "name"),
        ({"name": "-x", "source": {"type": "none"}}, "name"),
        ({"name": "a", "source": {"type": "copy"}}, "source.source"),
        ({"name": "a", "source": {"type": "image"}}, "source.alias"),
        ({"name": "a", "source": {"type": "image", "alias": "a", "server": "https://x"}}, "source.server"),
        ({"name": "a", "source": {"type": "image", "properties": {"os": "Plan9"}}}, "source.properties"),
        ({"name": "a", "source": {"type": "none"}, "config": {"nonsense": "1"}}, "config.nonsense"),
        ({"name": "a", "source": {"type": "none"}, "config": []}, "config"),
        ({"name": "a", "source": {"type": "none"}, "profiles": "default"}, "profiles"),
        ({"name": "a", "source": {"type": "none"}, "instance_type": "aws:t2.micro"}, "instance_type"),
        ({"name": "a", "source": {"type": "none"}, "stateful": True}, "stateful"),
    ],
)
async def test_wrong_requests_name_their_field(stand: Stand, body: object, field: str) -> None:
    status, answer = await stand.ask("POST", "/1.0/instances", body)
    assert status in (400, 404)
    assert answer["metadata"]["field"] == field


async def test_lists_by_recursion(two_instances: Stand) -> None:
    assert await two_instances.get("/1.0/instances") == ["/1.0/instances/db1", "/1.0/instances/web1"]
    shown = await two_instances.get("/1.0/instances?recursion=1")
    assert [(one["name"], one["status"]) for one in shown] == [("db1", "Stopped"), ("web1", "Running")]
    two_instances.give_address("web1", "10.0.0.2")
    full = await two_instances.get("/1.0/instances?recursion=2&all-projects=true")
    assert full[1]["state"]["network"]["eth0"]["addresses"][0]["address"] == "10.0.0.2"
    assert (full[0]["snapshots"], full[0]["backups"], full[0]["state"]["network"]) == ([], [], None)


async def test_a_record_does_not_grow_without_bound(stand: Stand) -> None:
    await stand.create("web1")
    for at in range(9):
        body = {"config": {f"user.{at}": "x" * (128 << 10)}}
        status, answer = await stand.ask("PATCH", "/1.0/instances/web1", body)
        assert (status, answer["error_code"]) == ((200, 0) if at < 7 else (413, 413)), at
    assert (await stand.ask("PATCH", "/1.0/instances/web1", {"config": {"user.0": "", "user.9": "x"}}))[0] == 200
    many = {f"user.{at}": "x" * (128 << 10) for at in range(9)}
    assert (await stand.ask("PATCH", "/1.0/profiles/default", {"config": many}))[0] == 413


async def test_filters(two_instances: Stand) -> None:
    assert await two_instances.get("/1.0/instances?filter=status+eq+running") == ["/1.0/instances/web1"]
    found = await two_instances.get("/1.0/instances?recursion=1&filter=config.user.role+eq+db1")
    assert [one["name"] for one in found] == ["db1"]


async def test_older_trees(two_instances: Stand) -> None:
    assert await two_instances.get("/1.0/containers") == ["/1.0/containers/db1", "/1.0/containers/web1"]
    assert await two_instances.get("/1.0/virtual-machines") == []
    assert (await two_instances.get("/1.0/containers/web1"))["name"] == "web1"
    assert (await two_instances.ask("GET", "/1.0/virtual-machines/web1"))[0] == 404
    ended = await two_instances.finish("PUT", "/1.0/containers/web1/state", {"action": "stop"})
    assert ended["resources"]["containers"] == ["/1.0/instances/web1"]


async def test_rendered_instances_follow_every_change(two_instances: Stand) -> None:
    async def one() -> dict[str, object]:
        return dict((await two_instances.get("/1.0/instances?recursion=1"))[1])

    before = await one()
    rendering, get = two_instances.doors.rest.rendering, two_instances.services.instances.get
    kept = rendering.one(get(Ref.default("web1")))
    assert await one() == before
    assert rendering.one(get(Ref.default("web1"))) is kept, "nothing changed, nothing is rendered"
    await two_instances.finish("PUT", "/1.0/instances/web1/state", {"action": "freeze"})
    assert (await one())["status"] == "Frozen"
    await two_instances.ask("PATCH", "/1.0/profiles/default", {"config": {"user.from": "profile"}})
    assert (await one())["expanded_config"]["user.from"] == "profile"  # type: ignore[index]
    await two_instances.ask("PATCH", "/1.0/instances/web1", {"description": "new"})
    assert (await one())["description"] == "new"
    await two_instances.finish("DELETE", "/1.0/instances/web1?force=1")
    await two_instances.create("web1", description="another")
    assert (await one())["description"] == "another"


async def test_put_replaces_and_patch_merges(two_instances: Stand) -> None:
    async with two_instances.session.get("http://isola/1.0/instances/web1") as answer:
        tag = answer.headers["ETag"]
    status, _ = await two_instances.ask("PATCH", "/1.0/instances/web1", {"config": {"user.more": "1"}})
    assert status == 200
    shown = await two_instances.get("/1.0/instances/web1")
    assert (shown["config"]["user.role"], shown["config"]["user.more"]) == ("web1", "1")
    body = {"config": {"user.only": "2"}, "profiles": ["default"], "devices": {}}
    status, answered = await two_instances.ask("PUT", "/1.0/instances/web1", body, headers={"If-Match": tag})
    assert (status, answered["metadata"]["code"]) == (412, "precondition_failed")
    ended = await two_instances.finish("PUT", "/1.0/instances/web1", body)
    assert ended["status"] == "Success"
    shown = await two_instances.get("/1.0/instances/web1")
    assert {key for key in shown["config"] if key.startswith("user.")} == {"user.only"}
    status, answered = await two_instances.ask("PUT", "/1.0/instances/web1", {"restore": "web1/snap0"})
    assert (status, answered["metadata"]["code"]) == (404, "not_found")


async def test_states_change_one_by_one(two_instances: Stand) -> None:
    for action, expected in (
        ("freeze", "Frozen"),
        ("unfreeze", "Running"),
        ("freeze", "Frozen"),
        ("start", "Running"),
        ("restart", "Running"),
        ("stop", "Stopped"),
        ("start", "Running"),
    ):
        await two_instances.finish("PUT", "/1.0/instances/web1/state", {"action": action, "timeout": -1})
        assert (await two_instances.get("/1.0/instances/web1/state"))["status"] == expected
    status, body = await two_instances.ask("PUT", "/1.0/instances/web1/state", {"action": "start"})
    assert (status, body["metadata"]["code"]) == (400, "wrong_state")
    status, body = await two_instances.ask("PUT", "/1.0/instances/web1/state", {"action": "explode"})
    assert (status, body["metadata"]["field"]) == (400, "action")


async def test_states_change_all_at_once(two_instances: Stand) -> None:
    ended = await two_instances.finish("PUT", "/1.0/instances", {"state": {"action": "start"}})
    assert ended["resources"]["instances"] == ["/1.0/instances/db1"]
    shown = await two_instances.get("/1.0/instances?recursion=1")
    assert {one["status"] for one in shown} == {"Running"}
    await two_instances.finish("PUT", "/1.0/instances", {"state": {"action": "stop", "force": True}})
    shown = await two_instances.get("/1.0/instances?recursion=1")
    assert {one["status"] for one in shown} == {"Stopped"}


async def test_rename_and_delete(two_instances: Stand) -> None:
    status, body = await two_instances.ask("POST", "/1.0/instances/db1", {"name": "db2", "migration": True})
    assert (status, body["metadata"]["field"]) == (400, "migration")
    await two_instances.finish("POST", "/1.0/instances/db1", {"name": "db2"})
    assert await two_instances.get("/1.0/instances") == ["/1.0/instances/db2", "/1.0/instances/web1"]
    status, body = await two_instances.ask("DELETE", "/1.0/instances/web1")
    assert (status, body["metadata"]["code"]) == (400, "wrong_state")
    await two_instances.finish("DELETE", "/1.0/instances/db2")
    await two_instances.finish("DELETE", "/1.0/instances/web1?force=1")
    assert await two_instances.get("/1.0/instances") == []


async def test_files(two_instances: Stand) -> None:
    url = "http://isola/1.0/instances/web1/files"
    headers = {"X-LXD-type": "directory", "X-LXD-mode": "0700"}
    assert (await two_instances.ask("POST", "/1.0/instances/web1/files?path=/srv", headers=headers))[0] == 200
    headers = {"X-Incus-uid": "5", "X-Incus-gid": "6", "X-Incus-mode": "640"}
    big = b"x" * 3_000_000
    async with two_instances.session.post(f"{url}?path=/srv/a", data=big, headers=headers) as answer:
        assert answer.status == 200
    async with two_instances.session.post(
        f"{url}?path=srv/a", data=b"end", headers={"X-LXD-write": "append"}
    ) as answer:
        assert answer.status == 200
    async with two_instances.session.get(f"{url}?path=/srv/a") as answer:
        assert await answer.read() == big + b"end"
        shown = {name: answer.headers[f"X-LXD-{name}"] for name in ("uid", "gid", "mode", "type")}
        assert shown == {"uid": "5", "gid": "6", "mode": "0640", "type": "file"}
        assert answer.headers["X-Incus-uid"] == "5"
    async with two_instances.session.head(f"{url}?path=/srv") as answer:
        assert answer.headers["X-LXD-type"] == "directory"
    async with two_instances.session.post(
        f"{url}?path=/srv/link", data=b"/etc/x", headers={"X-LXD-type": "symlink"}
    ) as answer:
        assert answer.status == 200
    async with two_instances.session.get(f"{url}?path=/srv/link") as answer:
        assert (await answer.read(), answer.headers["X-LXD-type"]) == (b"/etc/x", "symlink")
    assert await two_instances.get("/1.0/instances/web1/files?path=/srv") == ["a", "link"]
    assert (await two_instances.ask("DELETE", "/1.0/instances/web1/files?path=/srv/a"))[0] == 200
    assert (await two_instances.ask("GET", "/1.0/instances/web1/files?path=/srv/a"))[0] == 404


@pytest.mark.parametrize(
    ("query", "headers", "field"),
    [
        ("", {}, "path"),
        ("?path=/a", {"X-LXD-uid": "x"}, "X-LXD-uid"),
        ("?path=/a", {"X-LXD-gid": str(2**40)}, "X-LXD-gid"),
        ("?path=/a", {"X-LXD-mode": "0999"}, "X-LXD-mode"),
        ("?path=/a", {"X-LXD-mode": "77777"}, "X-LXD-mode"),
        ("?path=/a", {"X-LXD-type": "socket"}, "X-LXD-type"),
        ("?path=/a", {"X-LXD-write": "shred"}, "X-LXD-write"),
        ("?path=/a", {"X-LXD-type": "symlink"}, "body"),
        ("?path=/a%00b", {}, "path"),
    ],
)
async def test_wrong_file_requests_name_their_field(
    two_instances: Stand, query: str, headers: dict[str, str], field: str
) -> None:
    status, body = await two_instances.ask("POST", f"/1.0/instances/web1/files{query}", headers=headers)
    assert (status, body["metadata"]["field"]) == (400, field)


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("POST", "/1.0/instances", {"name": "new", "source": {"type": "none"}}),
        ("POST", "/1.0/instances", {"name": "new", "source": {"type": "copy", "source": "web1"}}),
        ("PUT", "/1.0/instances/web1", {}),
        ("PATCH", "/1.0/instances/web1", {}),
    ],
)
async def test_a_profile_is_named_once(two_instances: Stand, method: str, path: str, more: dict[str, object]) -> None:
    status, body = await two_instances.ask(method, path, {"profiles": ["default", "default"]} | more)
    assert (status, body["metadata"]["field"]) == (400, "profiles")


@pytest.mark.parametrize(
    ("sent", "kind", "kept"),
    [("0100751", "file", "0751"), ("040755", "directory", "0755"), ("0104755", "file", "4755")],
)
async def test_a_mode_may_include_the_file_type(two_instances: Stand, sent: str, kind: str, kept: str) -> None:
    url = "/1.0/instances/web1/files?path=/new"
    status, body = await two_instances.ask("POST", url, headers={"X-LXD-type": kind, "X-LXD-mode": sent})
    assert status == 200, body
    async with two_instances.session.head(f"http://isola{url}") as answer:
        assert answer.headers["X-LXD-mode"] == kept


async def test_many_names_are_sent_piece_by_piece(two_instances: Stand) -> None:
    url = "/1.0/instances/web1/files?path=/"
    before = await two_instances.get(url)
    root = await two_instances.inside("web1")
    names = [f"a{number:05}" for number in range(10_000)]
    root.children |= {name: Node("file") for name in names}
    assert await two_instances.get(url) == [*names, *before]
    async with two_instances.session.get(f"http://isola{url}") as answer:
        assert (answer.headers["X-LXD-type"], answer.content_type) == ("directory", "application/json")
        assert (await answer.json())["status_code"] == 200


async def test_a_directory_is_made_for_its_owner_and_group(two_instances: Stand) -> None:
    headers = {"X-LXD-type": "directory"}
    await two_instances.ask("POST", "/1.0/instances/web1/files?path=/srv", headers=headers)
    async with two_instances.session.head("http://isola/1.0/instances/web1/files?path=/srv") as answer:
        assert answer.headers["X-LXD-mode"] == "0750"


async def test_names_that_are_not_utf8_are_shown(two_instances: Stand) -> None:
    url = "/1.0/instances/web1/files?path=/"
    before = await two_instances.get(url)
    (await two_instances.inside("web1")).children["\udcff.txt"] = Node("file")
    assert await two_instances.get(url) == [*before, "\ufffd.txt"]


async def test_logs_and_console(two_instances: Stand) -> None:
    await two_instances.write_logs("web1")
    two_instances.world.runtime.show(two_instances.services.instances.get(Ref.default("web1")).id, b"login: ")
    assert await two_instances.get("/1.0/instances/web1/logs") == [
        "/1.0/instances/web1/logs/runtime.log",
        "/1.0/instances/web1/logs/exec-output/exec_1.stdout",
    ]
    async with two_instances.session.get("http://isola/1.0/instances/web1/logs/exec-output/exec_1.stdout") as answer:
        assert await answer.read() == b"log of exec-output/exec_1.stdout"
    assert (await two_instances.ask("GET", "/1.0/instances/web1/logs/..%2f..%2fetc"))[0] == 404
    async with two_instances.session.get("http://isola/1.0/instances/web1/console") as answer:
        assert await answer.read() == b"login: "
    assert (await two_instances.ask("DELETE", "/1.0/instances/web1/console"))[0] == 200
    async with two_instances.session.get("http://isola/1.0/instances/web1/console") as answer:
        assert await answer.read() == b""


@pytest.mark.parametrize("noun", ["backups"])
async def test_unsupported_features_are_named(two_instances: Stand, noun: str) -> None:
    assert await two_instances.get(f"/1.0/instances/web1/{noun}") == []
    assert (await two_instances.ask("GET", f"/1.0/instances/web1/{noun}/x"))[0] == 404
    status, body = await two_instances.ask("POST", f"/1.0/instances/web1/{noun}", {"name": "x"})
    assert (status, body["metadata"]["code"]) == (501, "unsupported")
    assert (await two_instances.ask("POST", f"/1.0/instances/nope/{noun}", {"name": "x"}))[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "says"),
    [
        ("DELETE", "/1.0/instances/web1/backups/b0", "Backups are not offered"),
        ("DELETE", "/1.0/storage-pools/default/volumes/container/web1", "Only custom volumes"),
        ("DELETE", "/1.0/cluster/members/abc", "Clustering is not offered"),
        ("DELETE", "/1.0/images", "DELETE of /1.0/images is not offered"),
        ("PUT", "/1.0/operations", "PUT of /1.0/operations is not offered"),
    ],
)
async def test_unsupported_verbs_have_a_reason(two_instances: Stand, method: str, path: str, says: str) -> None:
    status, body = await two_instances.ask(method, path, {})
    assert (status, body["metadata"]["code"]) == (501, "unsupported") and says in body["error"], body


async def test_a_copy_of_a_missing_instance(stand: Stand) -> None:
    source = {"type": "copy", "source": "b"}
    status, _ = await stand.ask("POST", "/1.0/instances", {"name": "a", "source": source})
    assert status == 404
    status, _ = await stand.ask("POST", "/1.0/instances", {"name": "a", "source": source | {"project": "nope"}})
    assert status == 404


async def test_access_inside_instances_publishes_events(two_instances: Stand) -> None:
    await two_instances.write_logs("web1")
    events = two_instances.services.events.follow([EventKind.LIFECYCLE])
    base = "/1.0/instances/web1"
    async with two_instances.session.post(f"http://isola{base}/files?path=etc/motd", data=b"hi") as answer:
        assert answer.status == 200
    for method in ("HEAD", "GET", "DELETE"):
        async with two_instances.session.request(method, f"http://isola{base}/files?path=/etc/motd") as answer:
            assert answer.status == 200
    assert (await two_instances.ask("DELETE", f"{base}/files?path=/etc/motd"))[0] == 404
    async with two_instances.session.get(f"http://isola{base}/logs/runtime.log") as answer:
        assert answer.status == 200
    async with two_instances.session.get(f"http://isola{base}/console") as answer:
        assert answer.status == 200
    await two_instances.ask("DELETE", f"{base}/console")
    await two_instances.get(f"{base}/metadata")
    events.close()
    told = [(lifecycle(event).action, lifecycle(event).context or None) async for event in events]
    assert told == [
        ("instance-file-pushed", {"path": "/etc/motd"}),
        ("instance-file-retrieved", {"path": "/etc/motd"}),
        ("instance-file-deleted", {"path": "/etc/motd"}),
        ("instance-log-retrieved", {"file": "runtime.log"}),
        ("instance-console-retrieved", None),
        ("instance-console-reset", None),
        ("instance-metadata-retrieved", None),
    ]


async def test_keys_of_the_daemon_are_not_a_client_s_to_set(stand: Stand) -> None:
    """A project's user could tell an administrator what the daemon has not said."""
    said = {"volatile.deploy.role": "retiring", "volatile.any": "1", "image.description": "Debian", "user.a": "b"}
    body = {"name": "web1", "source": {"type": "image", "alias": "tiny"}, "config": said}
    status, answer = await stand.ask("POST", "/1.0/instances", body)
    assert status == 202 and (await stand.get(f"{answer['operation']}/wait"))["status_code"] == 200
    shown = (await stand.get("/1.0/instances/web1"))["config"]
    assert shown["user.a"] == "b"
    assert [key for key in said if shown.get(key) == said[key]] == ["user.a"]
