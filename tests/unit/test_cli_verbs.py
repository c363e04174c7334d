"""The command line, in a new process for each command, with a stateful daemon in memory."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from served_daemon import ServedDaemon

from isola.errors import HostFailure, WrongState
from isola.instances.settings import SETTINGS
from isola.model.limits import Usage
from isola.model.operation import OperationStatus
from isola.model.reference import Ref
from isola.operations import Operation

Run = Callable[..., "subprocess.CompletedProcess[str]"]
LIMITS = {row.key.removesuffix("*") for row in SETTINGS if row.key.startswith("limits.")}
ISOLA = [sys.executable, "-m", "isola.cli.main"]


def environment(daemon: ServedDaemon) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "ISOLA_DIR": str(daemon.directory), "LANG": "C.UTF-8"}


@pytest.fixture
def isola(daemon: ServedDaemon) -> Run:
    def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        options = {"text": True, "stdin": subprocess.DEVNULL} | options
        if "input" in options:
            options.pop("stdin")
        return subprocess.run(
            [*ISOLA, *arguments], capture_output=True, timeout=120, env=environment(daemon), check=False, **options
        )

    return run


def own(instance: dict[str, Any]) -> dict[str, str]:
    """The configuration that the user has set."""
    return {k: v for k, v in instance["config"].items() if not k.startswith(("volatile.", "image."))}


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_arguments_it_shows_first_steps_and_every_verb(isola: Run) -> None:
    text = ok(isola())
    assert "isola launch debian/12 web1" in text
    for verb in ("launch", "exec", "image", "doctor", "completion"):
        assert f"\n  {verb} " in text


def test_a_device_of_a_profile_is_changed_in_one_key(isola: Run, daemon: ServedDaemon) -> None:
    ok(isola("create", "tiny", "web1", "-d", "eth0,mtu=1400"))
    made = daemon.instances["web1"]
    assert made["devices"] == {"eth0": made["expanded_devices"]["eth0"]}
    assert made["devices"]["eth0"]["mtu"] == "1400" and made["devices"]["eth0"]["network"]
    done = isola("create", "tiny", "web2", "--no-profiles", "-d", "eth0,mtu=1400")
    assert done.returncode == 1 and "has no type" in done.stderr


def test_the_lifecycle_of_an_instance(isola: Run, daemon: ServedDaemon) -> None:
    ok(isola("profile", "create", "small"))
    ok(isola("network", "create", "lab"))
    done = isola(
        "launch", "tiny", "web1", "--memory", "64MiB", "--cpu", "1", "-n", "lab", "-d", "eth0,mtu=1400",
        "-p", "default", "-p", "small",
    )  # fmt: skip
    assert "web1 is running" in done.stderr, done.stderr
    made = daemon.instances["web1"]
    assert made["config"]["volatile.base_image"] == daemon.world.parts.services.images.alias(Ref.default("tiny")).target
    assert own(made) == {"limits.memory": "64MiB", "limits.cpu": "1"}
    assert made["devices"] == {"eth0": {"type": "nic", "network": "lab", "name": "eth0", "mtu": "1400"}}
    assert made["profiles"] == ["default", "small"]
    ok(isola("create", "tiny", "web2"))
    assert daemon.instances["web2"]["status"] == "Stopped"
    daemon.world.runtime.ends_on = frozenset({9})
    late = isola("stop", "web1", "--timeout", "1")
    assert late.returncode == 1 and "within 1 s" in late.stderr, late.stderr
    daemon.world.runtime.ends_on = frozenset({9, 30})
    ok(isola("stop", "web1", "--timeout", "5"))
    assert daemon.instances["web1"]["status"] == "Stopped"
    ok(isola("start", "--all"))
    assert {item["status"] for item in daemon.instances.values()} == {"Running"}
    ok(isola("pause", "web1", "web2"))
    ok(isola("resume", "web1"))
    ok(isola("stop", "web1"))
    ok(isola("rename", "web1", "web3"))
    done = isola("delete", "web2", "web3")
    assert done.returncode == 1
    assert "stop it first" in done.stderr, done.stderr
    ok(isola("delete", "--all", "--force"))
    assert daemon.instances == {}


def test_a_launch_is_one_request(isola: Run, daemon: ServedDaemon) -> None:
    ok(isola("launch", "tiny", "web1"))
    assert [line.split()[0] for line in daemon.requests] == ["POST"]


def test_a_generated_name_is_printed_on_request(isola: Run, daemon: ServedDaemon) -> None:
    (name,) = ok(isola("launch", "tiny", "--print-name", "-q")).splitlines()
    assert list(daemon.instances) == [name]


def test_list_in_every_format_and_filtered(isola: Run, daemon: ServedDaemon) -> None:
    daemon.do(daemon.world.import_image("red", description="Tiny\x1b[31m"))
    daemon.create("web2", start=False, config={"user.role": "db"})
    daemon.create("web1", image="red")
    daemon.give_address("web1", "10.0.0.2")
    daemon.world.on_host("web1").usage = Usage(memory=2**20)
    base_image = daemon.world.parts.services.images.alias(Ref.default("tiny")).target
    lines = ok(isola("list")).splitlines()
    assert lines[2].split() == ["web1", "Running", "10.0.0.2", "(eth0)", "container", "Tiny�[31m"]
    assert lines[3].split() == ["web2", "Stopped", "container", base_image[:12]]
    assert ok(isola("list", "-c", "name,memory", "-f", "csv")) == "web1,1.00MiB\nweb2,\n"
    assert [item["name"] for item in json.loads(ok(isola("list", "-f", "json")))] == ["web1", "web2"]
    assert [item["name"] for item in yaml.safe_load(ok(isola("list", "user.role=db", "-f", "yaml")))] == ["web2"]
    assert ok(isola("list", "status=running", "-c", "n", "-f", "csv")) == "web1\n"
    assert isola("list", "-c", "nZ").returncode == 2


def test_a_list_of_names_requests_no_state(isola: Run, daemon: ServedDaemon) -> None:
    ok(isola("list", "-c", "ns"))
    assert daemon.requests == ["GET /1.0/instances?recursion=1"]


def test_exec_joins_streams_and_status(isola: Run, daemon: ServedDaemon) -> None:
    daemon.create("web1")
    done = isola("exec", "web1", "-E", "GREETING=hi", "--", "sh", "-c", "echo $GREETING; echo oops >&2; exit 42")
    assert (done.returncode, done.stdout, done.stderr) == (42, "hi\n", "oops\n")
    data = os.urandom(1 << 22)
    echoed: subprocess.CompletedProcess[Any] = isola("exec", "web1", "--", "cat", input=data, text=False)
    assert (echoed.returncode, echoed.stdout) == (0, data)


def test_exec_into_a_closed_pipe_ends_quietly(daemon: ServedDaemon) -> None:
    daemon.create("web1")
    line = f"{sys.executable} -m isola.cli.main exec web1 -- yes | head -c 100000 | wc -c; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=120, env=environment(daemon), check=False
    )
    assert (done.stdout.split(), done.stderr) == (["100000", "141"], "")


def test_signals_reach_the_command(daemon: ServedDaemon) -> None:
    daemon.create("web1")
    script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        [*ISOLA, "exec", "web1", "--", "sh", "-c", script],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env=environment(daemon),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=120)[0] == b"caught\n"
    assert (process.returncode, daemon.signals) == (9, [signal.SIGTERM])


def test_run_returns_the_commands_status_and_deletes_the_instance(isola: Run, daemon: ServedDaemon) -> None:
    done = isola("run", "tiny", "--", "sh", "-c", "cat; exit 3", input="through")
    assert (done.returncode, done.stdout, daemon.instances) == (3, "through", {})
    assert isola("run", "tiny", "--", "missing").returncode == 127
    assert daemon.instances == {}
    said = isola("run", "tiny", "--keep", "--", "true").stderr
    (kept,) = daemon.instances.values()
    assert f"{kept['name']} is kept" in said
    assert kept["ephemeral"] is False, "the next stop would delete an instance that is to be kept"
    both = isola("run", "tiny", "--keep", "--ephemeral", "--", "true")
    assert (both.returncode, len(daemon.instances)) == (2, 1) and "--keep" in both.stderr


def test_run_learns_the_name_at_once_and_asks_for_the_deletion_in_one_request(isola: Run, daemon: ServedDaemon) -> None:
    assert isola("run", "tiny", "--", "true").returncode == 0
    first, last = daemon.requests[0], daemon.requests[-1]
    assert first.startswith("POST /1.0/instances") and "wait=" not in first, daemon.requests
    assert last.startswith("DELETE /1.0/instances/") and "wait=" in last, daemon.requests


def test_run_leaves_no_instance_that_cannot_be_started(isola: Run, daemon: ServedDaemon) -> None:
    done = isola("run", "tiny", "--name", "web1", "-c", "oci.entrypoint=/no/such/program", "--", "true")
    assert done.returncode == 1 and "could not be started" in done.stderr
    assert daemon.instances == {}
    daemon.create("web1")
    assert isola("run", "tiny", "--name", "web1", "--", "true").returncode == 1
    assert list(daemon.instances) == ["web1"], "it is not its own"


@pytest.mark.parametrize("sign", ["?wait=", "/wait"], ids=["before the response", "later"])
def test_ctrl_c_cancels_the_operation_and_waits_for_it(daemon: ServedDaemon, sign: str) -> None:
    async def slow(operation: Operation) -> None:
        await asyncio.sleep(30)

    daemon.slow = slow
    process = subprocess.Popen(
        [*ISOLA, "launch", "tiny", "web1"], stderr=subprocess.PIPE, text=True, env=environment(daemon)
    )
    wait_for(lambda: any(sign in line for line in daemon.requests))
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert "Cancelled; all changes were rolled back" in error
    assert [operation.status for operation in daemon.operations] == [OperationStatus.CANCELLED]
    assert daemon.instances == {}


def test_ctrl_c_cancels_all_operations_of_a_command(daemon: ServedDaemon) -> None:
    async def slow(operation: Operation) -> None:
        await asyncio.sleep(30)

    for name in ("web1", "web2", "web3"):
        daemon.create(name)
    daemon.slow = slow
    process = subprocess.Popen([*ISOLA, "stop", "--all"], stderr=subprocess.DEVNULL, env=environment(daemon))
    wait_for(lambda: any("/wait" in line for line in daemon.requests))
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert [operation.status for operation in daemon.operations] == [OperationStatus.CANCELLED] * 3
    assert {item["status"] for item in daemon.instances.values()} == {"Running"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_killed_run_leaves_no_instance(daemon: ServedDaemon, number: int) -> None:
    async def slow(operation: Operation) -> None:
        await asyncio.sleep(30)

    daemon.slow = slow
    process = subprocess.Popen(
        [*ISOLA, "run", "tiny", "--", "true"], stderr=subprocess.DEVNULL, env=environment(daemon)
    )
    wait_for(lambda: any("/wait" in line for line in daemon.requests))
    time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == 130
    assert [operation.status for operation in daemon.operations] == [OperationStatus.CANCELLED]
    assert daemon.instances == {}


def test_images_that_can_be_built_are_listed_and_completed(isola: Run) -> None:
    assert ok(isola("image", "available", "-f", "csv")).startswith('debian/11,"Debian 11 (bullseye)')
    completed = set(ok(isola("__complete", "--", "launch", "debian/1")).split())
    assert {name for name in completed if name.count("/") == 1} == {"debian/11", "debian/12", "debian/13"}
    assert "debian/12/vm" in completed


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_hints_of_the_daemon_are_extended_by_commands(isola: Run, daemon: ServedDaemon) -> None:
    async def fail(operation: Operation) -> None:
        raise WrongState("Not now", remedy="unfreeze it first")

    daemon.slow = fail
    done = isola("launch", "tiny", "web1")
    assert done.returncode == 1 and "Hint: unfreeze it first\n      isola list shows states" in done.stderr, done.stderr


def test_errors_have_a_message_evidence_and_a_hint(isola: Run, daemon: ServedDaemon) -> None:
    done = isola("info", "absent")
    listed = "isola list shows the instances of this project; --project NAME and REMOTE:NAME choose another place\n"
    assert done.stderr == f"Error: Instance 'absent' not found\nHint: {listed}"
    daemon.create("present", start=False)
    for verb in ("info", "start", "stop", "delete"):
        done = isola(verb, "presnt")
        assert done.stderr == f"Error: Instance 'presnt' not found\nHint: did you mean 'present'?\n      {listed}", verb

    async def fail(operation: Operation) -> None:
        raise HostFailure("No room", evidence="disk\x1b[2J full", remedy="make room")

    daemon.slow = fail
    done = isola("launch", "tiny", "web1")
    assert (done.returncode, done.stderr) == (1, "Error: No room\n  disk�[2J full\nHint: make room\n")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["lisst"], 2, "did you mean list?"),
        (["network", "lst"], 2, "did you mean list?"),
        (["launch"], 2, "usage: isola launch IMAGE"),
        (["exec", "web1"], 2, "COMMAND is missing"),
        (["config", "set"], 2, "KEY=VALUE is missing"),
        (["stop", "web1", "--timeout", "x"], 2, "--timeout must be a whole number"),
        (["--dir", "/nowhere", "list"], 1, "isolad"),
        (["stop"], 2, "--all"),
        (["exec", "-t", "-T", "web1", "--", "true"], 2, "exclude each other"),
        (["config", "set", "web1", "nonsense"], 2, "KEY=VALUE"),
        (["file", "pull", "nopath", "."], 2, "web1/etc/hosts"),
    ],
)
def test_invalid_command_lines_end_with_a_hint(isola: Run, arguments: list[str], status: int, said: str) -> None:
    done = isola(*arguments)
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_configuration_is_read_set_unset_and_edited(isola: Run, daemon: ServedDaemon) -> None:
    def made() -> dict[str, str]:
        return own(daemon.instances["web1"])

    daemon.create("web1", config={"limits.memory": "1GiB"}, description="ours")
    assert ok(isola("config", "get", "web1", "limits.memory")) == "1GiB\n"
    ok(isola("config", "set", "web1", "limits.memory=2GiB", "user.a=b"))
    ok(isola("config", "set", "web1", "limits.cpu", "2"))
    ok(isola("config", "unset", "web1", "user.a"))
    ok(isola("config", "set", "web1", "description=other"))
    assert ok(isola("config", "get", "web1", "description")) == "other\n"
    ok(isola("config", "unset", "web1", "description"))
    assert ok(isola("config", "get", "web1", "description")) == "\n"
    ok(isola("config", "set", "web1", "description", "ours"))
    assert made() == {"limits.memory": "2GiB", "limits.cpu": "2"}
    shown = yaml.safe_load(ok(isola("config", "show", "web1")))
    assert shown["description"] == "ours"
    shown["config"] = {"limits.cpu": 3, "user.flag": True}
    ok(isola("config", "edit", "web1", input=yaml.safe_dump(shown)))
    assert made() == {"limits.cpu": "3", "user.flag": "true"}
    ok(isola("profile", "set", "default", "limits.cpu=1"))
    ok(isola("network", "set", "isolabr0", "ipv4.nat=false"))
    services = daemon.world.parts.services
    assert services.profiles.get(Ref.default("default")).config == {"limits.cpu": "1"}
    assert services.networks.get(Ref.default("isolabr0")).config["ipv4.nat"] == "false"


def test_doctor_tells_under_which_profile_instances_run(isola: Run, daemon: ServedDaemon) -> None:
    system = daemon.world.host.system
    system.apparmor_label = "isolad (enforce)"
    confined = ok(isola("doctor"))
    system.apparmor_label = None
    without = ok(isola("doctor"))
    system.apparmor_label = "unconfined"
    assert "! apparmor     the daemon and its instances run under the profile isolad (enforce)" in confined
    assert "apparmor" not in without


def test_doctor_shows_what_works_and_what_does_not(isola: Run) -> None:
    lines = ok(isola("doctor")).splitlines()
    assert any("✔ fake" in line for line in lines)
    assert any("– crun" in line and "hybrid" in line for line in lines)
    assert any("→ boot with cgroup v2 alone" in line for line in lines)
    assert any("! inotify" in line and "800 of 1024" in line for line in lines)
    assert any("→ sysctl -w fs.inotify.max_user_instances" in line for line in lines)
    assert any("✔ apparmor" in line and "without a profile" in line for line in lines)
    assert any("! disk limits" in line and "can fill storage pool default" in line for line in lines)
    down = isola("doctor", "--dir", "/nowhere")
    assert down.returncode == 1
    assert "✘ daemon" in down.stdout
    assert "mmdebstrap" in down.stdout and "isola file mount" in down.stdout and "pools on btrfs" in down.stdout


@pytest.mark.parametrize("form", ["table", "json", "all projects"])
def test_events_are_printed_until_the_daemon_ends_them(daemon: ServedDaemon, form: str) -> None:
    more = {"table": [], "json": ["-f", "json"], "all projects": ["--all-projects"]}[form]
    line = [*ISOLA, "monitor", "-t", "lifecycle", *more]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment(daemon))
    wait_for(lambda: any("/1.0/events" in request for request in daemon.requests))
    asked = [request for request in daemon.requests if "/1.0/events" in request]
    assert ["all-projects=true" in request for request in asked] == [form == "all projects"]
    daemon.create("web1")
    daemon.close()
    stdout = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    if form == "json":
        assert [json.loads(line)["type"] for line in stdout.splitlines()] == ["lifecycle"] * 2
    else:
        assert stdout.splitlines()[1] == "00:00:00.000 lifecycle instance-started instances/web1"


@pytest.mark.parametrize("verb", ["get", "unset"])
def test_a_key_that_does_not_exist_is_an_error(isola: Run, daemon: ServedDaemon, verb: str) -> None:
    daemon.create("web1")
    done = isola("config", verb, "web1", "limit.memory")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Unknown instance key 'limit.memory'" in done.stderr
    assert "did you mean limits.memory?" in done.stderr


def test_a_key_that_is_not_set_is_empty(isola: Run, daemon: ServedDaemon) -> None:
    daemon.create("web1")
    assert ok(isola("config", "get", "web1", "limits.memory")) == "\n"
    assert ok(isola("config", "get", "web1", "user.purpose")) == "\n"
    ok(isola("config", "unset", "web1", "user.purpose"))


def test_the_api_can_be_called_directly(isola: Run, daemon: ServedDaemon) -> None:
    daemon.create("web1")
    assert json.loads(ok(isola("query", "/1.0/instances"))) == ["/1.0/instances/web1"]
    body = json.dumps({"action": "stop"})
    answer = json.loads(ok(isola("query", "-X", "PUT", "--wait", "-d", body, "/1.0/instances/web1/state")))
    assert (answer["status"], daemon.instances["web1"]["status"]) == ("Success", "Stopped")
    assert json.loads(isola("query", "--raw", "/1.0/instances/nobody").stdout)["type"] == "error"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([""], {"launch", "list", "exec"}),
        (["netw"], {"network"}),
        (["network", "le"], {"leases"}),
        (["exec", "we"], {"web1", "web2"}),
        (["stop", "web1", "web"], {"web1", "web2"}),
        (["exec", "web1", "--", "w"], set()),
        (["list", "--format", ""], {"table", "json", "yaml", "csv"}),
        (["list", "--fo"], {"--format"}),
        (["launch", "tiny", "x", "--profile", ""], {"default"}),
        (["file", "pull", "web1/et"], {"web1/etc/"}),
        (["file", "pull", "web1/etc/ho"], {"web1/etc/hosts", "web1/etc/hostname"}),
        (["start", "web1", "--wait", ""], {"ready", "healthy"}),
        (["launch", "tiny", "x", "--wait", "re"], {"ready"}),
        (["restart", "--wait=re"], {"--wait=ready"}),
        (["list", "--format=j"], {"--format=json"}),
        (["completion", ""], {"bash", "zsh", "fish"}),
        (["config", "set", "web1", "limits."], LIMITS),
        (["config", "set", "web1", "boot.autostart="], {"boot.autostart=true", "boot.autostart=false"}),
        (["config", "set", "web1", "limits.cpu="], set()),
        (["config", "set", "web1", "security.nothing"], set()),
        (["nonsense", ""], set()),
    ],
)
def test_arguments_are_completed(isola: Run, daemon: ServedDaemon, arguments: list[str], expected: set[str]) -> None:
    for name in ("web1", "web2", "db1"):
        daemon.create(name)
    daemon.tree("web1")["/etc/hosts"] = {"kind": "file"}
    found = set(ok(isola("__complete", "--", *arguments)).split())
    assert found >= expected if arguments == [""] else found == expected


def test_keys_are_completed_with_the_values_they_take(isola: Run) -> None:
    (line,) = ok(isola("__complete", "--describe", "--", "config", "set", "web1", "limits.tm")).splitlines()
    assert line == "limits.tmpfs\ta size of at least 1MiB, such as 512MiB, or a percentage such as 25%"


def test_keys_of_a_device_are_those_of_its_type(isola: Run) -> None:
    arguments = ("__complete", "--", "config", "device", "add", "web1", "dev")
    tmpfs = {line.partition("\t")[0] for line in ok(isola(*arguments, "disk", "")).splitlines()}
    assert {"source", "path", "readonly"} <= tmpfs and not {"listen", "nictype"} & tmpfs
    proxy = {
        line.partition("\t")[0] for line in ok(isola(*arguments, "proxy", "listen=tcp:127.0.0.1:80", "")).splitlines()
    }
    assert {"connect", "nat"} <= proxy and "source" not in proxy
    assert "bind=host" in ok(isola(*arguments, "proxy", "bind=")).split()


def test_bash_completes_through_the_script(isola: Run, daemon: ServedDaemon, tmp_path: Path) -> None:
    daemon.create("web1")
    launcher = tmp_path / "isola"
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -m isola.cli.main "$@"\n')
    launcher.chmod(0o755)
    script = ok(isola("completion", "bash"))
    line = f"{script}\nCOMP_WORDS=(isola exec w); COMP_CWORD=2; _isola; echo ${{COMPREPLY[@]}}"
    variables = environment(daemon) | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120, env=variables, check=False)
    assert (done.stdout, done.stderr) == ("web1\n", "")


def in_shell(isola: Run, daemon: ServedDaemon, directory: Path, shell: str, line: str) -> list[str]:
    """Candidates of a shell, by its own completion and the script of isola."""
    launcher = directory / "isola"
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -m isola.cli.main "$@"\n')
    launcher.chmod(0o755)
    (directory / "script").write_text(ok(isola("completion", shell)))
    variables = environment(daemon) | {"PATH": f"{directory}:{os.environ['PATH']}", "HOME": str(directory)}
    done = subprocess.run(
        [shell, "-c", line], cwd=directory, capture_output=True, text=True, timeout=120, env=variables, check=False
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_fish_offers_no_files_for_names(isola: Run, daemon: ServedDaemon, tmp_path: Path) -> None:
    daemon.create("web1")
    (tmp_path / "webfile").touch()
    line = "source script; complete -C 'isola exec we'"
    assert in_shell(isola, daemon, tmp_path, "fish", line) == ["web1"]
    assert "webfile" in in_shell(
        isola, daemon, tmp_path, "fish", "source script; complete -C 'isola image import webf'"
    )


def test_a_failed_mount_is_not_reported_as_mounted(daemon: ServedDaemon, tmp_path: Path) -> None:
    daemon.create("web1")
    program = tmp_path / "bin" / "sshfs"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    found = environment(daemon) | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    argv = [*ISOLA, "file", "mount", "web1/srv", str(tmp_path / "nowhere")]
    done = subprocess.run(argv, capture_output=True, timeout=120, env=found, check=False, text=True)
    assert done.returncode == 1 and "is not a directory" in done.stderr and "is mounted" not in done.stderr
