"""Instances: lifecycle, snapshots, commands and files."""

from __future__ import annotations

from isola.client.api import Api, cast, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from isola.client.api import Query
    from isola.client.displays import Screen
    from isola.client.exec import Ended, Session
    from isola.client.files import Files
    from isola.client.http import Headers
    from isola.client.operations import Operation
    from isola.client.shapes import InstanceInfo, LearnedInfo, SnapshotInfo, StateInfo

_ROOT = "/1.0/instances"


def path_of(name: str) -> str:
    """Path of an instance in the API."""
    return f"{_ROOT}/{quote(name)}"


def begin(
    client: Api,
    method: str,
    path: str,
    body: object = None,
    *,
    query: Query | None = None,
    headers: Headers = (),
    ends: bool = True,
) -> Operation:
    """``operations.begin``, imported late because a list of instances does not need it."""
    from isola.client import operations

    return operations.begin(client, method, path, body, query=query, headers=headers, ends=ends)


def _snapshot(name: str, snapshot: str) -> str:
    return f"{path_of(name)}/snapshots/{quote(snapshot)}"


class Instances:
    """The daemon's instances."""

    def __init__(self, client: Api) -> None:
        self._client = client

    def all(self, *, state: bool = False) -> list[InstanceInfo]:
        """All instances; with ``state``, including their state (addresses, memory, ...)."""
        return cast("list[InstanceInfo]", self._client.get(_ROOT, {"recursion": 2 if state else 1}))

    def names(self) -> list[str]:
        paths = self._client.get(_ROOT)
        return [str(path).partition("?")[0].rpartition("/")[2] for path in paths] if isinstance(paths, list) else []

    def get(self, name: str, *, state: bool = False) -> InstanceInfo:
        """One instance. Raises NotFound."""
        return self.read(name, state=state)[0]

    def read(self, name: str, *, state: bool = False) -> tuple[InstanceInfo, str]:
        """One instance and its ETag."""
        reply = self._client.call("GET", path_of(name), query={"recursion": 1} if state else None)
        return cast("InstanceInfo", reply.metadata), reply.etag

    def state(self, name: str) -> StateInfo:
        """Its current state: addresses, memory, processes, ..."""
        return cast("StateInfo", self._client.get(f"{path_of(name)}/state"))

    def create(
        self,
        *,
        image: str | None,
        name: str = "",
        start: bool = False,
        config: Mapping[str, str] | None = None,
        devices: Mapping[str, Mapping[str, str]] | None = None,
        profiles: Sequence[str] | None = None,
        ephemeral: bool = False,
        description: str = "",
        isolation: str = "",
        runtime: str = "",
        program: Mapping[str, object] | None = None,
        terminal: bool = True,
        stdin: bool = False,
        ends: bool = True,
    ) -> Operation:
        """Create an instance from an image (alias, fingerprint, or a name that a source offers); None: an empty root.

        ``program``: ``entrypoint``, ``arguments``, ``cwd``, ``user``, ``stop_signal``, ``stop_timeout`` in place of the
        image's. Without ``terminal`` standard output and standard error are separate; ``stdin`` keeps its input
        open.
        With ``start`` the operation starts it, too. The operation's ``resources`` name the instance; without ``ends``
        they do so at once.
        """
        body: dict[str, object] = {
            "name": name,
            "source": {"type": "none"} if image is None else {"type": "image", "alias": image},
            "type": "container",
            "start": start,
            "ephemeral": ephemeral,
            "config": dict(config or {}),
            "devices": {key: dict(value) for key, value in (devices or {}).items()},
        }
        if profiles is not None:
            body["profiles"] = list(profiles)
        if program is not None:
            body["program"] = dict(program)
        if not terminal:
            body["terminal"] = False
        if stdin:
            body["stdin"] = True
        chosen = {"description": description, "isolation": isolation, "runtime": runtime}
        body.update({key: value for key, value in chosen.items() if value})
        return begin(self._client, "POST", _ROOT, body, ends=ends)

    def update(self, name: str, instance: Mapping[str, object], *, etag: str = "") -> Operation:
        """Replace configuration, devices, profiles and description; with ``etag`` only if it is unchanged."""
        headers = (("If-Match", etag),) if etag else ()
        return begin(self._client, "PUT", path_of(name), dict(instance), headers=headers)

    def rename(self, name: str, new: str) -> Operation:
        return begin(self._client, "POST", path_of(name), {"name": new})

    def move(
        self,
        name: str,
        new: str = "",
        *,
        pool: str = "",
        project: str = "",
        isolation: str = "",
        runtime: str = "",
        snapshots: bool = True,
    ) -> Operation:
        """Move a stopped instance to another pool, project or isolation. Without ``snapshots`` its snapshots are
        lost.
        """
        body: dict[str, object] = {"name": new or name, "migration": True, "instance_only": not snapshots}
        given = {"pool": pool, "project": project, "isolation": isolation, "runtime": runtime}
        body |= {key: value for key, value in given.items() if value}
        return begin(self._client, "POST", path_of(name), body)

    def _root_in(self, pool: str, source: str, project: str) -> dict[str, dict[str, str]]:
        """The root disk device of an instance or snapshot, changed to another pool."""
        name, _, snapshot = source.partition("/")
        path = _snapshot(name, snapshot) if snapshot else path_of(name)
        found = self._client.get(path, {"project": project} if project else None)
        devices = cast("InstanceInfo", found)["expanded_devices"]
        roots = [name for name, device in devices.items() if device.get("path") == "/" and device["type"] == "disk"]
        name = roots[0] if roots else "root"
        return {name: {"type": "disk", "path": "/", **devices.get(name, {}), "pool": pool}}

    def copy(
        self,
        source: str,
        name: str = "",
        *,
        project: str = "",
        pool: str = "",
        refresh: bool = False,
        snapshots: bool = True,
        config: Mapping[str, str] | None = None,
        devices: Mapping[str, Mapping[str, str]] | None = None,
        profiles: Sequence[str] | None = None,
        ephemeral: bool = False,
        start: bool = False,
    ) -> Operation:
        """Copy an instance (``web1``) or a snapshot (``web1/snap0``) of ``project``, by default to the same pool.

        With ``refresh`` the files and snapshots of an existing, stopped copy are updated.
        """
        devices = dict(devices or {}) | (self._root_in(pool, source, project) if pool else {})
        origin: dict[str, object] = {"type": "copy", "source": source, "instance_only": not snapshots}
        if refresh:
            origin["refresh"] = True
        if project:
            origin["project"] = project
        body: dict[str, object] = {
            "name": name,
            "source": origin,
            "config": dict(config or {}),
            "devices": {key: dict(value) for key, value in (devices or {}).items()},
            "ephemeral": ephemeral,
            "start": start,
        }
        if profiles is not None:
            body["profiles"] = list(profiles)
        return begin(self._client, "POST", _ROOT, body)

    def delete(self, name: str, *, force: bool = False) -> Operation:
        """Delete it with its data; a running one only with ``force``."""
        return begin(self._client, "DELETE", path_of(name), query={"force": 1} if force else None)

    # --- snapshots ----------------------------------------------------------------------------------------------

    def snapshot_names(self, name: str) -> list[str]:
        paths = self._client.get(f"{path_of(name)}/snapshots")
        return [str(path).partition("?")[0].rpartition("/")[2] for path in paths] if isinstance(paths, list) else []

    def snapshots(self, name: str) -> list[SnapshotInfo]:
        """Snapshots with their sizes, oldest first."""
        return cast("list[SnapshotInfo]", self._client.get(f"{path_of(name)}/snapshots", {"recursion": 1}))

    def read_snapshot(self, name: str, snapshot: str) -> SnapshotInfo:
        """Raises NotFound."""
        return cast("SnapshotInfo", self._client.get(_snapshot(name, snapshot)))

    def snapshot(self, name: str, snapshot: str = "", *, expires_at: str = "", stateful: bool = False) -> Operation:
        """Take a snapshot, ``stateful`` with what is in memory; its default name follows ``snapshots.pattern``.

        A time in the year 1: it never expires.
        """
        body = {"name": snapshot} | ({"expires_at": expires_at} if expires_at else {})
        more = {"stateful": True} if stateful else {}
        return begin(self._client, "POST", f"{path_of(name)}/snapshots", {**body, **more})

    def rename_snapshot(self, name: str, snapshot: str, new: str) -> Operation:
        """Raises NotFound, AlreadyExists."""
        return begin(self._client, "POST", _snapshot(name, snapshot), {"name": new})

    def expire_snapshot(self, name: str, snapshot: str, expires_at: str) -> Operation:
        """Set the time of expiry; empty: never."""
        body = {"expires_at": expires_at} if expires_at else {}
        return begin(self._client, "PUT", _snapshot(name, snapshot), body)

    def restore(self, name: str, snapshot: str, *, stateful: bool = False) -> Operation:
        """Restore a snapshot; a running instance is stopped, and started again afterwards.

        ``stateful``: it is started from what the snapshot has of its memory.
        """
        more = {"stateful": True} if stateful else {}
        return begin(self._client, "PUT", path_of(name), {"restore": snapshot, **more})

    def delete_snapshot(self, name: str, snapshot: str) -> Operation:
        return begin(self._client, "DELETE", _snapshot(name, snapshot))

    # --- lifecycle --------------------------------------------------------------------------------------------------

    def start(self, name: str, *, stateless: bool = False) -> Operation:
        """From its saved state, if it has one and ``stateless`` is not set."""
        return self._set_state(name, "start", **({"stateful": False} if stateless else {}))

    def save(self, name: str) -> Operation:
        """Stop it, and keep what it has in memory for the next start."""
        return self._set_state(name, "stop", stateful=True)

    def stop(self, name: str, *, force: bool = False, timeout: int = 30, kill: bool = False) -> Operation:
        """Request a shutdown and wait ``timeout`` seconds (-1: without limit).

        With ``force`` kill it at once, with ``kill`` after the timeout; without them the operation fails then.
        """
        return self._set_state(name, "stop", force=force, timeout=timeout, kill=kill)

    def restart(self, name: str, *, force: bool = False, timeout: int = 30, kill: bool = False) -> Operation:
        """Stop it as ``stop`` does, and start it again."""
        return self._set_state(name, "restart", force=force, timeout=timeout, kill=kill)

    def begin_learning(self, name: str) -> None:
        """Record what it uses from now on. Raises Unsupported."""
        self._client.call("POST", f"{path_of(name)}/learning")

    def learned(self, name: str) -> LearnedInfo:
        """What it has used since then."""
        return cast("LearnedInfo", self._client.get(f"{path_of(name)}/learning"))

    def end_learning(self, name: str) -> None:
        """End the recording."""
        self._client.call("DELETE", f"{path_of(name)}/learning")

    def signal(self, name: str, signal: int | str) -> None:
        """Send its first process a signal."""
        self._client.call("POST", f"{path_of(name)}/signal", {"signal": signal})

    def pause(self, name: str) -> Operation:
        """Freeze its processes."""
        return self._set_state(name, "freeze")

    def resume(self, name: str) -> Operation:
        """Thaw its processes."""
        return self._set_state(name, "unfreeze")

    def _set_state(self, name: str, action: str, **how: object) -> Operation:
        return begin(self._client, "PUT", f"{path_of(name)}/state", {"action": action, **how})

    # --- inside -------------------------------------------------------------------------------------------------

    def exec(
        self,
        name: str,
        command: Sequence[str],
        *,
        interactive: bool = False,
        environment: Mapping[str, str] | None = None,
        user: int | str = 0,
        group: int | None = None,
        cwd: str = "",
        size: tuple[int, int] = (0, 0),
    ) -> Session:
        """Start a command inside; if ``interactive``, with a terminal of ``size`` columns and lines.

        Without ``group`` it runs with the user's primary group inside the instance.
        """
        from isola.client.exec import Session

        body: dict[str, object] = {
            "command": list(command),
            "environment": dict(environment or {}),
            "interactive": interactive,
            "wait-for-websocket": True,
            "width": size[0],
            "height": size[1],
            "user": user,
            "cwd": cwd,
        }
        if group is not None:
            body["group"] = group
        return Session(self._client, begin(self._client, "POST", f"{path_of(name)}/exec", body, ends=False))

    def exec_apart(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        user: int | str = 0,
        cwd: str = "",
    ) -> Operation:
        """Start a command inside with nothing attached; it runs on when this client goes."""
        body = {"command": list(command), "environment": dict(environment or {}), "user": user, "cwd": cwd}
        return begin(self._client, "POST", f"{path_of(name)}/exec", body, ends=False)

    def run(self, name: str, command: Sequence[str], input: bytes = b"", **how: object) -> Ended:
        """Run a command to its end, with ``input`` as standard input; ``how`` as for ``exec``."""
        from isola.client.exec import collect

        return collect(self.exec(name, command, **how), input)  # type: ignore[arg-type]

    def console(self, name: str, size: tuple[int, int] = (0, 0), *, force: bool = False) -> Session:
        """Attach to the console; with ``force`` also if another client is attached."""
        from isola.client.exec import Session

        body = {"width": size[0], "height": size[1], "type": "console", "force": force}
        return Session(self._client, begin(self._client, "POST", f"{path_of(name)}/console", body, ends=False))

    def screen(self, name: str, *, force: bool = False) -> Screen:
        """Begin to show its screen; with ``force`` also if another client looks at it."""
        from isola.client.displays import Screen

        body = {"type": "vga", "force": force}
        return Screen(self._client, begin(self._client, "POST", f"{path_of(name)}/console", body, ends=False))

    def attach(self, name: str, *, ahead: bool = False, stdin: bool = False) -> Session:
        """Attach to the output and input of its first process; with ``ahead`` of the next run if it does not run."""
        from isola.client.exec import Session

        body = {"ahead": ahead, "stdin": stdin}
        return Session(self._client, begin(self._client, "POST", f"{path_of(name)}/attach", body, ends=False))

    def console_log(self, name: str) -> bytes:
        """Past output of the console."""
        return self._raw(f"{path_of(name)}/console")

    def logs(self, name: str) -> list[str]:
        """Names of its log files."""
        paths = self._client.get(f"{path_of(name)}/logs")
        return [str(path).rpartition("/")[2] for path in paths] if isinstance(paths, list) else []

    def log(self, name: str, file: str) -> bytes:
        return self._raw(f"{path_of(name)}/logs/{quote(file)}")

    def files(self, name: str) -> Files:
        from isola.client.files import Files

        return Files(self._client, path_of(name))

    def _raw(self, path: str) -> bytes:
        from isola.client.reply import Reply

        response = self._client.exchange("GET", path)
        try:
            if response.status >= 400:
                Reply.read(response)
            return response.read()
        finally:
            self._client.release(response)
