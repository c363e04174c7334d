"""Objects that workloads create over the API: all of them are removed, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench import objects
from bench.images import Images
from bench.lxdlike import LxdLike
from bench.shell import Trouble


class Daemon:
    """A connection to a daemon that stores objects by path, and refuses to delete used ones."""

    def __init__(self) -> None:
        self.held = {
            "/1.0/networks/br0", "/1.0/networks/bench-br", "/1.0/projects/default", "/1.0/projects/bench-p0",
            "/1.0/storage-pools/default", "/1.0/storage-pools/bench-dir",
            "/1.0/storage-pools/bench-dir/volumes/custom/bench-v",
        }  # fmt: skip
        self.instances = {("default", "bench-a"): "Running", ("bench-p0", "bench-b"): "Stopped"}
        self.instances["default", "mine"] = "Running"
        self.open = 0
        self.most = 0

    def act(self, method: str, path: str, body: object = None) -> Any:
        return self.wait(self.begin(method, path, body))

    def begin(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        if path.startswith("/1.0/instances"):
            result = self._instance(method, path)
        elif method == "GET":
            result = [held for held in sorted(self.held) if held.rpartition("/")[0] == path]
        else:
            result = self._remove(path)
        self.open += 1
        self.most = max(self.most, self.open)
        return {"metadata": result}

    def wait(self, answer: dict[str, Any]) -> Any:
        self.open -= 1
        if isinstance(answer["metadata"], Trouble):
            raise answer["metadata"]
        return answer["metadata"]

    def _instance(self, method: str, path: str) -> Any:
        if method == "GET":
            return [{"project": p, "name": n, "status": s} for (p, n), s in self.instances.items()]
        place, _, project = path.partition("?project=")
        key = (project, place.split("/")[3])
        if method == "PUT":
            self.instances[key] = "Stopped"
        elif self.instances.get(key) != "Stopped":
            return Trouble(f"{path} runs or is missing")
        else:
            del self.instances[key]
        return {}

    def _remove(self, path: str) -> object:
        below = [held for held in self.held if held.startswith(f"{path}/")]
        if below or self.instances.keys() - {("default", "mine")}:
            return Trouble(f"{path} is in use")
        self.held.remove(path)
        return {}


def side(daemon: Daemon) -> LxdLike:
    subject = LxdLike(Path("/nowhere"), Images(Path("/nowhere")))
    subject.connection = daemon  # type: ignore[assignment]
    return subject


def test_removes_its_own_objects_in_a_valid_order_and_leaves_others() -> None:
    daemon = Daemon()
    objects.remove_all(side(daemon))
    assert daemon.instances == {("default", "mine"): "Running"}
    assert daemon.held == {"/1.0/networks/br0", "/1.0/projects/default", "/1.0/storage-pools/default"}
    objects.remove_all(side(daemon))


def test_many_requests_are_bounded_and_each_is_tried() -> None:
    daemon = Daemon()
    daemon.instances = {("default", f"bench-{number}"): "Stopped" for number in range(30)}
    daemon.instances["default", "bench-7"] = "Running"
    requests: list[objects.Request] = [
        ("DELETE", f"/1.0/instances/bench-{number}?project=default", None) for number in range(30)
    ]
    with pytest.raises(Trouble, match="bench-7"):
        side(daemon).act_each(requests, at_once=4)
    assert list(daemon.instances) == [("default", "bench-7")]
    assert daemon.most == 4


@pytest.mark.parametrize(
    ("make", "path", "body"),
    [
        (lambda: objects.new("bench-x"), "/1.0/instances?project=default", {"devices": {}}),
        (
            lambda: objects.new("bench-x", "fast", "bench-p0"),
            "/1.0/instances?project=bench-p0",
            {"devices": {"root": {"type": "disk", "path": "/", "pool": "fast"}}},
        ),
    ],
)
def test_a_tiny_instance_in_a_pool_and_a_project(
    make: Callable[[], objects.Request], path: str, body: dict[str, object]
) -> None:
    source = {"type": "image", "alias": "tiny"}
    assert make() == ("POST", path, {"name": "bench-x", "source": source, **body})
