"""Programs in containers through the Docker door, over a daemon in memory: variables, host names, commands, errors."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from docker_door import DockerStand, docker_standing

from isola.doors.docker.containers.streams import frame
from isola.doors.docker.containers.wording import of_command, of_name, of_start
from isola.errors import HostFailure, InvalidInput
from isola.model.exec import ExecRequest
from isola.model.reference import Ref


@pytest.fixture
async def docker() -> AsyncIterator[DockerStand]:
    async with docker_standing() as made:
        yield made


async def create(docker: DockerStand, **more: Any) -> str:
    status, made = await docker.ask("POST", "/containers/create?name=box", {"Image": "tiny", "Cmd": ["sleep"]} | more)
    assert status == 201, made
    return str(made["Id"])


async def test_variables_may_be_empty_and_may_be_removed(docker: DockerStand) -> None:
    await create(docker, Env=["B=2", "A=1", "EMPTY=", "GONE", "A=3"])
    config = docker.services.instances.get(Ref.default("box")).config
    assert config["environment.A"] == "3" and "environment.EMPTY" not in config
    assert (config["isola.environment.empty"], config["isola.environment.unset"]) == ("EMPTY", "GONE")
    shown = (await docker.get("/containers/box/json"))["Config"]["Env"]
    assert shown[:3] == ["B=2", "A=3", "EMPTY="] and shown[-1] == "GONE"


async def test_containers_are_called_by_their_id_inside(docker: DockerStand) -> None:
    id = await create(docker)
    assert docker.services.instances.get(Ref.default("box")).config["isola.hostname"] == id[:12]
    assert (await docker.get("/containers/box/json"))["Config"]["Hostname"] == id[:12]


async def started(docker: DockerStand, **command: Any) -> tuple[str, bytes]:
    """The id of a command, and all that its client gets."""
    await create(docker, Tty=True)
    assert (await docker.ask("POST", "/containers/box/start"))[0] == 204
    status, made = await docker.ask("POST", "/containers/box/exec", {"AttachStdout": True} | command)
    assert status == 201, made
    path = docker.rest.path.with_name("docker.sock")
    reader, writer = await asyncio.open_unix_connection(path)
    head = "Host: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    writer.write(f"POST /exec/{made['Id']}/start HTTP/1.1\r\n{head}\r\n{{}}".encode())
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).startswith(b"HTTP/1.1 101 UPGRADED")
    output = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return made["Id"], output


async def test_output_waits_until_the_head_was_read(docker: DockerStand) -> None:
    """Libraries lose what they read together with it."""
    await create(docker)
    assert (await docker.ask("POST", "/containers/box/start"))[0] == 204
    _, made = await docker.ask("POST", "/containers/box/exec", {"AttachStdout": True, "Cmd": ["nosuch"]})
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as link:
        link.setblocking(False)
        await loop.sock_connect(link, str(docker.rest.path.with_name("docker.sock")))
        head = "Host: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n"
        await loop.sock_sendall(link, f"POST /exec/{made['Id']}/start HTTP/1.1\r\n{head}\r\n".encode())
        await asyncio.sleep(0.2)
        assert (await loop.sock_recv(link, 65536)).endswith(b"\r\n\r\n")
        assert b"executable file not found" in await asyncio.wait_for(loop.sock_recv(link, 65536), 60)


@pytest.mark.parametrize("terminal", [True, False])
async def test_a_command_that_is_not_there_says_so_in_its_output(docker: DockerStand, terminal: bool) -> None:
    """With frames also of a terminal, as the client has not said again that there is one."""
    id, output = await started(docker, Cmd=["nosuch"], AttachStderr=True, Tty=terminal)
    said = "OCI runtime exec failed: exec failed: unable to start container process: "
    assert output == frame(1, f'{said}exec: "nosuch": executable file not found in $PATH\r\n'.encode())
    assert (await docker.get(f"/exec/{id}/json"))["ExitCode"] == 127


@pytest.mark.parametrize("terminal", [True, False])
async def test_a_command_that_has_ended_cannot_be_resized(docker: DockerStand, terminal: bool) -> None:
    id, _ = await started(docker, Cmd=["nosuch"], Tty=terminal)
    _, waiting = await docker.ask("POST", "/containers/box/exec", {"Cmd": ["x"], "Tty": terminal})
    resize = f"/exec/{waiting['Id']}/resize?h=3&w=4"
    assert (await docker.ask("POST", resize))[0] == 200, "before its start, for its start"
    gone = {"message": f"NotFound: process does not exist {id}: not found"}
    assert await docker.ask("POST", f"/exec/{id}/resize?h=3&w=4") == (404, gone)
    assert (await docker.ask("POST", f"/exec/{id}/resize?h=x&w=4"))[0] == 400
    whole = (await docker.get("/containers/box/json"))["Id"]
    assert (await docker.ask("POST", "/containers/box/kill"))[0] == 204
    assert (await docker.ask("POST", "/containers/box/wait"))[0] == 200
    status, body = await docker.ask("POST", resize)
    assert status == 404 or (status, body) == (409, {"message": f"container {whole} is not running"})


async def test_a_command_gets_no_variable_that_the_client_does_not_have(docker: DockerStand) -> None:
    await create(docker)
    assert (await docker.ask("POST", "/containers/box/start"))[0] == 204
    _, made = await docker.ask("POST", "/containers/box/exec", {"Cmd": ["x"], "Env": ["A=1", "B", "C="]})
    assert docker.services.instances.command(made["Id"]).request.environment == {"A": "1", "C": ""}


async def test_commands_networks_and_ends_are_events(docker: DockerStand) -> None:
    id, _ = await started(docker, Cmd=["nosuch", "x y"])
    assert (await docker.ask("POST", "/containers/box/resize?h=3&w=4"))[0] == 200
    assert (await docker.ask("POST", "/containers/box/stop?t=0"))[0] == 204
    await asyncio.sleep(0)
    until = docker.services.host.clock.now().timestamp()
    async with docker.session.get(f"http://docker/v1.50/events?since=1&until={until}") as answer:
        events = [orjson.loads(line) for line in (await answer.read()).splitlines()]
    told = [(event["Action"], event["Actor"]["Attributes"]) for event in events if event["Type"] == "container"]
    about = {action: {name: each[name] for name in each if name not in ("image", "name")} for action, each in told}
    assert about["exec_create: nosuch x y"] == about["exec_start: nosuch x y"] == {"execID": id}
    assert about["exec_die"] == {"execID": id, "exitCode": "127"}
    assert about["resize"] == {"height": "3", "width": "4"}
    assert [each["signal"] for action, each in told if action == "kill"] == ["15"]
    assert about["die"].keys() == {"execDuration", "exitCode"} and told[-1][0] == "stop"


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("unknown", "unable to find user unknown: no matching entries in passwd file"),
        ("0:unknown", "unable to find group unknown: no matching entries in group file"),
    ],
)
async def test_users_of_commands_are_looked_up_before_they_are_created(
    docker: DockerStand, user: str, said: str
) -> None:
    await started(docker, Cmd=["true"], User="0:0")
    wanted = {"Cmd": ["true"], "User": user}
    assert await docker.ask("POST", "/containers/box/exec", wanted) == (400, {"message": said})
    instances = docker.services.instances
    assert [each.request.user for each in instances.commands(Ref.default("box"))] == ["0:0"]


async def test_a_user_that_has_gone_meanwhile_is_an_error_of_the_start(docker: DockerStand) -> None:
    said = "unable to find user unknown: no matching entries in passwd file"
    await started(docker, Cmd=["true"])
    instances, request = docker.services.instances, ExecRequest(command=("true",), user="unknown")
    command = instances.exec(Ref.default("box"), request)
    async with docker.session.post(f"http://docker/v1.50/exec/{command.id}/start", json={}) as answer:
        assert await answer.read() == frame(1, f"{said}\r\n".encode())
    _, seen = await docker.ask("GET", f"/exec/{command.id}/json")
    assert (seen["Running"], seen["ExitCode"]) == (False, 126)
    command = instances.exec(Ref.default("box"), request)
    status, body = await docker.ask("POST", f"/exec/{command.id}/start", {"Detach": True})
    assert (status, body["message"]) == (400, said)
    assert (await docker.ask("POST", f"/exec/{command.id}/start", {"Detach": True}))[0] == 409


@pytest.mark.parametrize(
    ("said", "worded"),
    [
        ("executable file `x` not found in $PATH: No such file", 'exec: "x": executable file not found in $PATH'),
        ("open executable: Operation not permitted", 'exec: "x": permission denied'),
        ("open executable: Permission denied", 'exec: "x": permission denied'),
        ("chdir `/gone`: No such file or directory", 'chdir to cwd ("/gone") set in config.json failed: no such file'),
        ("something else", "something else"),
    ],
)
def test_failures_of_engines_as_docker_says_them(said: str, worded: str) -> None:
    begin = of_start("x", "crun", HostFailure("The first process could not be created", evidence=said))
    assert str(begin).startswith("failed to create task for container: ") and worded in str(begin)
    command = of_command("x", said)
    assert str(command).startswith("OCI runtime exec failed: exec failed: unable to start container process: ")
    assert worded in str(command)


def test_other_failures_keep_their_texts() -> None:
    other = HostFailure("No room", evidence="disk full")
    assert of_start("x", "crun", other) is other
    wrong = InvalidInput("There is no group 'g' inside", field="group")
    assert str(of_name(wrong)) == "unable to find group g: no matching entries in group file"
    for number in ("2147483648", "-1"):
        wrong = InvalidInput(f"There is no user {number!r} inside", field="user")
        assert str(of_name(wrong)) == "uids and gids must be in range 0-2147483647"


async def test_commands_may_have_every_capability_and_need_absolute_directories(docker: DockerStand) -> None:
    id, _ = await started(docker, Cmd=["true"], Privileged=True)
    assert (await docker.get(f"/exec/{id}/json"))["ProcessConfig"]["privileged"] is True
    said = b"OCI runtime exec failed: exec failed: Cwd must be an absolute path\r\n"
    _, made = await docker.ask("POST", "/containers/box/exec", {"Cmd": ["true"], "WorkingDir": "tmp"})
    async with docker.session.post(f"http://docker/v1.50/exec/{made['Id']}/start", json={}) as answer:
        assert (await answer.read())[8:] == said
    assert (await docker.get(f"/exec/{made['Id']}/json"))["ExitCode"] == 126


async def test_a_command_is_gone_with_its_container(docker: DockerStand) -> None:
    id, _ = await started(docker, Cmd=["true"])
    assert (await docker.ask("GET", f"/exec/{id}/json"))[0] == 200
    assert (await docker.ask("DELETE", "/containers/box?force=1"))[0] == 204
    assert await docker.ask("GET", f"/exec/{id}/json") == (404, {"message": f"No such exec instance: {id}"})


async def test_ends_of_commands_are_told_of_renamed_containers(docker: DockerStand) -> None:
    id, _ = await started(docker, Cmd=["true"])
    assert (await docker.ask("POST", "/containers/box/rename?name=crate"))[0] == 204
    command = docker.services.instances.command(id)
    assert command._ref().name == "crate"


async def test_prunes_and_removed_networks_are_events_with_their_ids(docker: DockerStand) -> None:
    await create(docker)
    _, made = await docker.ask("POST", "/networks/create", {"Name": "gone"})
    for noun in ("containers", "networks", "volumes", "images"):
        assert (await docker.ask("POST", f"/{noun}/prune"))[0] == 200
    assert (await docker.ask("POST", "/build/prune"))[0] == 200
    until = docker.services.host.clock.now().timestamp() + 1
    async with docker.session.get(f"http://docker/v1.50/events?since=1&until={until}") as answer:
        events = [orjson.loads(line) for line in (await answer.read()).splitlines()]
    pruned = [event["Type"] for event in events if event["Action"] == "prune"]
    assert pruned == ["container", "network", "volume", "image", "builder"]
    assert all("reclaimed" in event["Actor"]["Attributes"] for event in events if event["Action"] == "prune")
    network = next(each for each in events if (each["Type"], each["Action"]) == ("network", "destroy"))
    assert network["Actor"] == {"ID": made["Id"], "Attributes": {"name": "gone", "type": "bridge"}}
