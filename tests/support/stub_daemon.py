"""A daemon that keeps state and does nothing to the host: the API as far as the client uses it, over a Unix socket.

It stands on aiohttp, so the client's own HTTP and WebSocket code meets somebody else's. Commands "inside" an instance
are ordinary processes of the test.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import json
import os
import pty
import struct
import termios
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from aiohttp import WSMsgType, web

Json = dict[str, Any]
Work = Callable[["StubOperation"], Awaitable[None]]


class ApiError(Exception):
    def __init__(self, status: int, code: str, message: str, **details: str) -> None:
        super().__init__(message)
        self.status, self.body = status, {"code": code, "message": message, **details}


class StubOperation:
    def __init__(self, id: str, description: str, resources: Json) -> None:
        self.info: Json = {
            "id": id,
            "class": "task",
            "description": description,
            "status": "Running",
            "status_code": 103,
            "created_at": "2026-01-01T00:00:00Z",
            "resources": resources,
            "metadata": {},
            "may_cancel": True,
            "err": "",
        }
        self.done = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.channels: dict[str, asyncio.Future[web.WebSocketResponse]] = {}

    def steps(self, *steps: Json) -> None:
        self.info["metadata"]["progress"] = list(steps)

    async def run(self, work: Work) -> None:
        status, code = "Success", 200
        try:
            await work(self)
        except asyncio.CancelledError:
            status, code = "Cancelled", 401
        except ApiError as error:
            status, code = "Failure", 400
            self.info["err"] = str(error)
            self.info["metadata"]["error"] = error.body
        except Exception as error:
            status, code = "Failure", 400
            self.info["err"] = f"the stub failed: {error!r}"
        self.info.update(status=status, status_code=code, may_cancel=False)
        self.done.set()


class StubDaemon:
    """``with StubDaemon(directory) as daemon``: served by a thread of its own."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.instances: dict[str, Json] = {}
        self.files: dict[str, dict[str, Json]] = {}
        self.images: dict[str, Json] = {}
        self.networks: dict[str, Json] = {"lab": {"name": "lab", "managed": True, "type": "bridge", "config": {}}}
        self.profiles: dict[str, Json] = {"default": {"name": "default", "config": {}, "devices": {}}}
        self.pools: dict[str, Json] = {"default": {"name": "default", "driver": "overlay", "config": {}}}
        self.uploads: list[bytes] = []
        self.operations: dict[str, StubOperation] = {}
        self.requests: list[str] = []
        self.sizes: list[tuple[int, int]] = []
        self.signals: list[int] = []
        self.slow: Work | None = None
        """What every creation does before it succeeds."""
        self._ids = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    # --- life ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> StubDaemon:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *exception: object) -> None:
        if not self._ending.is_set():
            self._ending.set()
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        application = web.Application(middlewares=[self._watch], client_max_size=1 << 30)
        for method, path, handler in self._routes():
            application.router.add_route(method, path, handler)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        path = os.path.join(self.directory, "unix.socket")
        self._loop.run_until_complete(web.UnixSite(runner, path).start())
        self._started.set()
        self._loop.run_forever()
        # Connections first, as with a daemon that dies: no client hears how its operation ended.
        self._loop.run_until_complete(runner.cleanup())
        self._loop.run_until_complete(self._end_operations())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _end_operations(self) -> None:
        """A test that failed may have left commands that would run for ever."""
        tasks = [operation.task for operation in self.operations.values() if operation.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _routes(self) -> list[tuple[str, str, Any]]:
        one = "/1.0/instances/{name}"
        return [
            ("GET", "/1.0", self.server),
            ("GET", "/1.0/resources", self.resources),
            ("GET", "/1.0/metadata/configuration", self.keys),
            ("GET", "/1.0/events", self.events),
            ("GET", "/1.0/instances", self.list_instances),
            ("POST", "/1.0/instances", self.create),
            ("GET", one, self.get_instance),
            ("PUT", one, self.update),
            ("POST", one, self.rename),
            ("DELETE", one, self.delete),
            ("PUT", one + "/state", self.set_state),
            ("POST", one + "/exec", self.exec),
            ("POST", one + "/console", self.console),
            ("GET", one + "/console", self.console_log),
            ("GET", one + "/logs/lxc.log", self.console_log),
            ("GET", one + "/files", self.read_file),
            ("POST", one + "/files", self.write_file),
            ("DELETE", one + "/files", self.delete_file),
            ("GET", "/1.0/images", self.fixed(lambda: list(self.images.values()))),
            ("POST", "/1.0/images", self.upload),
            ("GET", "/1.0/images/aliases", self.fixed(lambda: [])),
            ("GET", "/1.0/images/aliases/{name:.+}", self.alias),
            ("GET", "/1.0/images/{fp}/export", self.export),
            ("GET", "/1.0/networks", self.fixed(lambda: list(self.networks.values()))),
            ("GET", "/1.0/networks/{name}", self.one_of("networks")),
            ("PUT", "/1.0/networks/{name}", self.put_to("networks")),
            ("GET", "/1.0/profiles", self.fixed(lambda: list(self.profiles.values()))),
            ("GET", "/1.0/profiles/{name}", self.one_of("profiles")),
            ("PUT", "/1.0/profiles/{name}", self.put_to("profiles")),
            ("GET", "/1.0/storage-pools", self.fixed(lambda: list(self.pools.values()))),
            ("GET", "/1.0/operations", self.list_operations),
            ("GET", "/1.0/operations/{id}", self.get_operation),
            ("DELETE", "/1.0/operations/{id}", self.cancel),
            ("GET", "/1.0/operations/{id}/wait", self.wait),
            ("GET", "/1.0/operations/{id}/websocket", self.connect),
        ]

    @web.middleware
    async def _watch(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path_qs}")
        try:
            result = handler(request)
            response: web.StreamResponse = await result if asyncio.iscoroutine(result) else result
            return response
        except ApiError as error:
            body = {"type": "error", "error": str(error), "error_code": error.status, "metadata": error.body}
            return web.json_response(body, status=error.status)

    # --- instances ----------------------------------------------------------------------------------------------

    async def keys(self, request: web.Request) -> web.Response:
        keys = [{"limits.memory": {}}, {"limits.cpu": {}}]
        return _sync({"configs": {"instance": {"limits": {"keys": keys}, "user": {"keys": [{"user.*": {}}]}}}})

    async def server(self, request: web.Request) -> web.Response:
        runtimes = [
            {"name": "runc", "available": True, "version": "1.1.5"},
            {"name": "crun", "available": False, "reason": "hybrid cgroups", "remedy": "boot with cgroup v2 alone"},
        ]
        offers = {"debian/12": "Debian 12 bookworm"}
        environment = {"server_version": "9.9", "kernel": "Linux", "runtimes": runtimes, "image_offers": offers}
        return _sync({"environment": environment})

    async def resources(self, request: web.Request) -> web.Response:
        return _sync({"kernel_limits": {"fs.inotify.max_user_instances": {"limit": 1024, "used": 800}}})

    async def events(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        about = {"action": "instance-started", "source": "/1.0/instances/web1"}
        event = {"type": "lifecycle", "timestamp": "2026-01-01T10:00:00.123Z", "metadata": about}
        await socket.send_json(event)
        await socket.close()
        return socket

    def _instance(self, request: web.Request) -> Json:
        name = request.match_info["name"]
        if name not in self.instances:
            raise ApiError(404, "not_found", f"Instance {name!r} not found", remedy="see isola list")
        return self.instances[name]

    async def list_instances(self, request: web.Request) -> web.Response:
        if "recursion" not in request.query:
            return _sync([f"/1.0/instances/{name}" for name in self.instances])
        return _sync(list(self.instances.values()))

    async def get_instance(self, request: web.Request) -> web.Response:
        response = _sync(self._instance(request))
        response.headers["ETag"] = "tag-1"
        return response

    async def create(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = body["name"] or f"calm-{len(self.instances) + 1}"
        if name in self.instances:
            raise ApiError(409, "already_exists", f"Instance {name!r} exists", field="name")

        async def work(operation: StubOperation) -> None:
            if self.slow is not None:
                await self.slow(operation)
            self.add(**{**body, "name": name, "status": "Running" if body.get("start") else "Stopped"})

        return self.begin("Creating instance", work, {"instances": [f"/1.0/instances/{name}"]})

    def add(self, name: str, **fields: Any) -> Json:
        fields = {"name": name, "status": "Running", "config": {}, "devices": {}, "profiles": ["default"], **fields}
        self.instances[name] = fields
        self.files.setdefault(name, {"/": {"kind": "directory"}})
        return fields

    async def update(self, request: web.Request) -> web.Response:
        found, body = self._instance(request), await request.json()
        if request.headers.get("If-Match", "tag-1") != "tag-1":
            raise ApiError(412, "precondition_failed", "The instance has changed meanwhile")
        found.update(body)
        return self.begin("Updating instance")

    async def rename(self, request: web.Request) -> web.Response:
        found, body = self._instance(request), await request.json()
        del self.instances[found["name"]]
        found["name"] = body["name"]
        self.instances[body["name"]] = found
        return self.begin("Renaming instance")

    async def delete(self, request: web.Request) -> web.Response:
        found = self._instance(request)
        if found["status"] == "Running" and request.query.get("force") != "1":
            raise ApiError(400, "wrong_state", f"Instance {found['name']!r} is running", remedy="stop it, or force")
        del self.instances[found["name"]]
        return self.begin("Deleting instance")

    async def set_state(self, request: web.Request) -> web.Response:
        found, body = self._instance(request), await request.json()
        after = {"start": "Running", "stop": "Stopped", "restart": "Running", "freeze": "Frozen", "unfreeze": "Running"}
        found["asked"] = body

        async def work(operation: StubOperation) -> None:
            if self.slow is not None:
                await self.slow(operation)
            found["status"] = after[body["action"]]

        return self.begin(body["action"], work)

    # --- operations ---------------------------------------------------------------------------------------------

    def begin(self, description: str, work: Work | None = None, resources: Json | None = None) -> web.Response:
        operation = StubOperation(f"{next(self._ids):08d}-0000-4000-8000-000000000000", description, resources or {})
        self.operations[operation.info["id"]] = operation

        async def nothing(operation: StubOperation) -> None:
            return None

        operation.task = self._loop.create_task(operation.run(work or nothing))
        return self.answer(operation)

    def answer(self, operation: StubOperation) -> web.Response:
        path = f"/1.0/operations/{operation.info['id']}"
        body = {"type": "async", "status_code": 100, "operation": path, "metadata": operation.info}
        return web.json_response(body, status=202)

    def _operation(self, request: web.Request) -> StubOperation:
        operation = self.operations.get(request.match_info["id"])
        if operation is None:
            raise ApiError(404, "not_found", "Operation not found")
        return operation

    async def list_operations(self, request: web.Request) -> web.Response:
        return _sync({"running": [operation.info for operation in self.operations.values()]})

    async def get_operation(self, request: web.Request) -> web.Response:
        return _sync(self._operation(request).info)

    async def cancel(self, request: web.Request) -> web.Response:
        operation = self._operation(request)
        assert operation.task is not None
        operation.task.cancel()
        return _sync({})

    async def wait(self, request: web.Request) -> web.Response:
        operation = self._operation(request)
        await operation.done.wait()
        return _sync(operation.info)

    # --- exec ---------------------------------------------------------------------------------------------------

    async def exec(self, request: web.Request) -> web.Response:
        self._instance(request)
        body = await request.json()

        async def work(operation: StubOperation) -> None:
            sockets = {name: await future for name, future in operation.channels.items()}
            if body["command"][0] == "missing":
                raise ApiError(400, "command_failed", "missing: no such program", remedy="install it")
            run = self._terminal if body["interactive"] else self._pipes
            operation.info["metadata"]["return"] = await run(body, sockets)

        return self._with_channels(work, ["0", "control"] if body["interactive"] else ["0", "1", "2", "control"])

    async def console(self, request: web.Request) -> web.Response:
        self._instance(request)

        async def work(operation: StubOperation) -> None:
            socket = await operation.channels["0"]
            await socket.send_bytes(b"login: ")
            async for message in socket:
                await socket.send_bytes(message.data)

        return self._with_channels(work, ["0", "control"])

    def _with_channels(self, work: Work, names: list[str]) -> web.Response:
        self.begin("Executing command", work)
        operation = list(self.operations.values())[-1]
        operation.channels = {name: self._loop.create_future() for name in names}
        operation.info["metadata"]["fds"] = {name: f"secret-{name}" for name in names}
        return self.answer(operation)

    async def connect(self, request: web.Request) -> web.WebSocketResponse:
        operation = self._operation(request)
        name = request.query["secret"].removeprefix("secret-")
        socket = web.WebSocketResponse(max_msg_size=1 << 30)
        await socket.prepare(request)
        operation.channels[name].set_result(socket)
        await operation.done.wait()
        await socket.close()
        return socket

    async def _pipes(self, body: Json, sockets: dict[str, web.WebSocketResponse]) -> int:
        pipe = asyncio.subprocess.PIPE
        environment = {"PATH": os.environ["PATH"], **body["environment"]}
        process = await asyncio.create_subprocess_exec(
            *body["command"], stdin=pipe, stdout=pipe, stderr=pipe, env=environment, cwd=body["cwd"] or None
        )
        assert process.stdin and process.stdout and process.stderr
        helpers = [
            self._loop.create_task(self._feed(sockets["0"], process.stdin)),
            self._loop.create_task(self._obey(sockets["control"], process.send_signal)),
        ]
        outputs = ((process.stdout, sockets["1"]), (process.stderr, sockets["2"]))
        await asyncio.gather(*(self._drain(stream, socket) for stream, socket in outputs))
        status = await process.wait()
        for helper in helpers:
            helper.cancel()
        return status if status >= 0 else 128 - status

    async def _feed(self, socket: web.WebSocketResponse, stdin: asyncio.StreamWriter) -> None:
        async for message in socket:
            if message.type is not WSMsgType.BINARY or not message.data:
                break
            stdin.write(message.data)
            with suppress(ConnectionError):  # the command has closed its input
                await stdin.drain()
        stdin.close()

    async def _drain(self, stream: asyncio.StreamReader, socket: web.WebSocketResponse) -> None:
        while data := await stream.read(65536):
            await socket.send_bytes(data)
        await socket.send_bytes(b"")

    async def _obey(self, socket: web.WebSocketResponse, signal: Callable[[int], None]) -> None:
        async for message in socket:
            words = json.loads(message.data)
            if words["command"] == "signal":
                self.signals.append(words["signal"])
                signal(words["signal"])

    async def _terminal(self, body: Json, sockets: dict[str, web.WebSocketResponse]) -> int:
        master, slave = pty.openpty()
        self._resize(master, body["width"], body["height"])
        environment = {"PATH": os.environ["PATH"], **body["environment"]}
        # A shell in the background has its children ignore what a terminal sends them.
        argv = ["env", "--default-signal=INT,QUIT", "setsid", "--ctty", *body["command"]]
        process = await asyncio.create_subprocess_exec(*argv, stdin=slave, stdout=slave, stderr=slave, env=environment)
        os.close(slave)
        os.set_blocking(master, False)
        helpers = [
            self._loop.create_task(self._type(sockets["0"], master)),
            self._loop.create_task(self._follow_size(sockets["control"], master)),
        ]
        try:
            while data := await self._read(master):
                await sockets["0"].send_bytes(data)
            return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            for helper in helpers:
                helper.cancel()
            os.close(master)

    async def _read(self, fd: int) -> bytes:
        """What is there next; no thread, which could not be ended while it waits."""
        ready = asyncio.Event()
        self._loop.add_reader(fd, ready.set)
        try:
            await ready.wait()
            return os.read(fd, 65536)
        except OSError:  # the other side has hung up
            return b""
        finally:
            self._loop.remove_reader(fd)

    async def _type(self, socket: web.WebSocketResponse, master: int) -> None:
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                os.write(master, message.data)

    async def _follow_size(self, socket: web.WebSocketResponse, master: int) -> None:
        async for message in socket:
            size = json.loads(message.data)["args"]
            self._resize(master, int(size["width"]), int(size["height"]))

    def _resize(self, master: int, columns: int, lines: int) -> None:
        self.sizes.append((columns, lines))
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    # --- files, images, the rest --------------------------------------------------------------------------------

    async def console_log(self, request: web.Request) -> web.Response:
        self._instance(request)
        return web.Response(body=b"booting\x1b[2J\n", content_type="application/octet-stream")

    async def read_file(self, request: web.Request) -> web.Response:
        tree, path = self.files[self._instance(request)["name"]], _plain(request.query["path"])
        found = tree.get(path)
        if found is None:
            raise ApiError(404, "not_found", f"{path} not found")
        headers = {
            "X-LXD-type": found["kind"],
            "X-LXD-uid": "0",
            "X-LXD-gid": "0",
            "X-LXD-mode": found.get("mode", "0644"),
        }
        if found["kind"] == "directory":
            response = _sync(found.get("names") or _children(tree, path))
            response.headers.update(headers)
            return response
        return web.Response(body=found["data"], headers=headers, content_type="application/octet-stream")

    async def write_file(self, request: web.Request) -> web.Response:
        tree, path = self.files[self._instance(request)["name"]], request.query["path"].rstrip("/")
        if os.path.dirname(path) not in tree:
            raise ApiError(404, "not_found", f"{path} does not exist")
        headers = request.headers
        owner = {key: headers[f"X-LXD-{key}"] for key in ("uid", "gid", "mode") if f"X-LXD-{key}" in headers}
        tree[path] = {"kind": headers["X-LXD-type"], "data": await request.read(), **owner}
        return _sync({})

    async def delete_file(self, request: web.Request) -> web.Response:
        tree, path = self.files[self._instance(request)["name"]], request.query["path"].rstrip("/")
        if _children(tree, path):
            raise ApiError(409, "conflict", f"{path} is not empty")
        del tree[path]
        return _sync({})

    async def upload(self, request: web.Request) -> web.Response:
        if request.content_type.startswith("multipart/"):
            parts = await request.multipart()
            while (part := await parts.next()) is not None:
                self.uploads.append(await part.read())  # type: ignore[union-attr]
        elif request.content_type == "application/json":
            source = (await request.json())["source"]
            self.images["f" * 64] = {"fingerprint": "f" * 64, "aliases": [{"name": source["alias"]}], "size": 1024}
        else:
            self.uploads.append(await request.read())
        return self.begin("Importing image")

    async def alias(self, request: web.Request) -> web.Response:
        for image in self.images.values():
            if request.match_info["name"] in [alias["name"] for alias in image["aliases"]]:
                return _sync({"name": request.match_info["name"], "target": image["fingerprint"]})
        raise ApiError(404, "not_found", "No such alias")

    async def export(self, request: web.Request) -> web.Response:
        if request.match_info["fp"].startswith("split"):
            boundary = "frontier"
            body = b"".join(
                f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n\r\n'.encode()
                + data
                + b"\r\n"
                for name, file, data in (
                    ("metadata", "meta.tar.xz", b"m" * 9),
                    ("rootfs", "../../rootfs.img", b"\r\n--" * 99999),
                )
            )
            body += f"--{boundary}--\r\n".encode()
            return web.Response(body=body, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"})
        headers = {"Content-Disposition": "attachment; filename=/etc/image.tar.gz"}
        return web.Response(body=b"i" * 500_000, headers=headers, content_type="application/octet-stream")

    def fixed(self, value: Callable[[], Any]) -> Any:
        async def get(request: web.Request) -> web.Response:
            return _sync(value())

        return get

    def one_of(self, noun: str) -> Any:
        async def get(request: web.Request) -> web.Response:
            found = getattr(self, noun).get(request.match_info["name"])
            if found is None:
                raise ApiError(404, "not_found", f"No {request.match_info['name']!r} among the {noun}")
            return _sync(found)

        return get

    def put_to(self, noun: str) -> Any:
        async def put(request: web.Request) -> web.Response:
            getattr(self, noun)[request.match_info["name"]].update(await request.json())
            return _sync({})

        return put


def _sync(metadata: Any) -> web.Response:
    return web.json_response({"type": "sync", "status_code": 200, "metadata": metadata})


def _plain(path: str) -> str:
    """Without ``..``, as the kernel would go where no links are on the way."""
    return os.path.normpath(path)


def _children(tree: dict[str, Json], path: str) -> list[str]:
    prefix = path.rstrip("/") + "/"
    return [
        name.removeprefix(prefix)
        for name in tree
        if name != "/" and name.startswith(prefix) and "/" not in name[len(prefix) :]
    ]
