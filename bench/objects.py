"""Objects that workloads create over the API and remove again: pools, instances, projects.

All names begin with ``bench-``, and existing objects are removed by name, so that it works after failures, too.
"""

from typing import Any
from urllib.parse import urlencode

PREFIX = "bench-"
PROJECT = {"features.images": "false", "features.profiles": "false"}
"""Projects see the images and profiles of ``default``."""
Request = tuple[str, str, object]


def make_pool(subject: Any, driver: str) -> str:
    """A pool of this driver; on btrfs it is a file. Returns its name."""
    name = PREFIX + driver
    config = {"size": "4GiB"} if driver == "btrfs" else {}
    subject.act("POST", "/1.0/storage-pools", {"name": name, "driver": driver, "config": config})
    return name


def new(name: str, pool: str = "", project: str = "default", image: str = "tiny") -> Request:
    """An instance that does not run."""
    root = {"root": {"type": "disk", "path": "/", "pool": pool}} if pool else {}
    body = {"name": name, "source": {"type": "image", "alias": image}, "devices": root}
    return "POST", f"/1.0/instances?{urlencode({'project': project})}", body


def started(name: str) -> Request:
    """It is started."""
    return "PUT", f"/1.0/instances/{name}/state", {"action": "start", "timeout": 30}


def remove_instances(subject: Any) -> None:
    """All instances of the bench in every project, running or not."""
    found = [
        (f"/1.0/instances/{instance['name']}", f"?{urlencode({'project': instance['project']})}", instance["status"])
        for instance in subject.act("GET", "/1.0/instances?recursion=1&all-projects=true")
        if instance["name"].startswith(PREFIX)
    ]
    stop = {"action": "stop", "force": True, "timeout": 30}
    subject.act_each([("PUT", f"{path}/state{query}", stop) for path, query, status in found if status != "Stopped"])
    subject.act_each([("DELETE", path + query, None) for path, query, _ in found])


def remove_all(subject: Any) -> None:
    """Instances, then custom volumes and pools, networks and projects."""
    remove_instances(subject)
    for pool in _ours(subject, "/1.0/storage-pools"):
        for volume in _ours(subject, f"{pool}/volumes/custom"):
            subject.act("DELETE", volume)
        # Incus keeps a copy of each image in each pool and removes it with the pool or on request.
        subject.act("DELETE", pool)
    for network in _ours(subject, "/1.0/networks"):
        subject.act("DELETE", network)
    for project in _ours(subject, "/1.0/projects"):
        subject.act("DELETE", project)


def _ours(subject: Any, path: str) -> list[str]:
    return [url for url in subject.act("GET", path) if url.rsplit("/", 1)[-1].startswith(PREFIX)]
