"""What happens to an application after its start: output, its end, restarts, health, and what it uses."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from application_image import import_application
from audit import settled
from command import Cli
from daemon import ApiError, Daemon
from tiny_daemon import tiny_daemon
from waiting import until

Json = dict[str, Any]


class Applications:
    """A daemon of its own, with an application image."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.isola = Cli(daemon)
        import_application(daemon, "app")

    def launch(self, name: str, script: str, **more: Any) -> None:
        """Run a shell script."""
        self.run(name, ["/bin/sh", "-c", script], **more)

    def run(self, name: str, command: list[str], *, config: Json | None = None, **more: Any) -> None:
        body = {"name": name, "source": {"type": "image", "alias": "app"}, "start": True, "config": config or {}}
        program = {"entrypoint": [""], "arguments": command} | more
        self.daemon.run("POST", "/1.0/instances", body | {"program": program, "terminal": False})

    def get(self, name: str) -> Json:
        found: Json = self.daemon.get(f"/1.0/instances/{name}")
        return found

    def last_run(self, name: str) -> Json:
        """How it ended, as soon as that is recorded."""
        until(lambda: self.get(name)["status"] == "Stopped")
        found: Json = self.get(name)["last_run"]
        return found


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applications]:
    with tiny_daemon(tmp_path_factory.mktemp("life")) as daemon:
        yield Applications(daemon)
        for path in daemon.get("/1.0/instances"):
            daemon.run("DELETE", f"{path}?force=1")
        assert not settled(daemon)


def test_the_log_is_rotated_and_read_in_all_ways(own: Applications) -> None:
    config = {"isola.log.max_size": "1MiB", "isola.log.max_files": "3"}
    # A pause after each half of a file: the daemon must see each of them (decision 0037).
    script = f"""
        i=0
        while [ $i -lt 6000 ]; do
            i=$((i+1)); echo line $i {"x" * 700}
            [ $((i % 700)) -gt 0 ] || sleep 1
        done
        sleep 0.5; echo bad >&2; sleep 99"""
    own.launch("talks", script, config=config)
    until(lambda: own.isola("logs", "talks", "-n", "1").stderr == "bad\n")
    done = own.isola("logs", "talks")
    _, *whole = done.stdout.splitlines()  # the oldest file that is left may begin with the rest of a line
    numbers = [int(line.split()[1]) for line in whole]
    assert numbers == list(range(numbers[0], 6001)) and 1 < numbers[0] < 4000, "without a gap up to the end"
    id = next((own.daemon.directory / "logs").glob("*/console.log.2")).parent
    sizes = [file.stat().st_size for file in {file.stat().st_ino: file for file in id.glob("console.log*")}.values()]
    assert len(sizes) <= 4 and all(size <= 1 << 20 for size in sizes)
    assert [line.split()[1] for line in own.isola("logs", "talks", "--tail", "3").stdout.splitlines()] == [
        "5999",
        "6000",
    ]
    stamped = own.isola("logs", "talks", "-t", "-n", "2").stdout
    assert len(stamped.split()[0]) == len("2026-01-31T12:00:00.123456789Z") and " line 6000 " in stamped
    assert own.isola("logs", "talks", "--until", "1h").stdout == ""
    assert own.isola("logs", "talks", "--since", "1h").stdout == done.stdout
    own.isola("stop", "talks", "--force")
    assert own.isola("logs", "talks", "-n", "2").stdout.startswith("line 6000 "), "also after its end"


def test_a_client_follows_until_the_end_and_others_wait(own: Applications) -> None:
    own.launch("ends", "i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo $i; sleep 0.05; done; exit 3")
    follower = subprocess.Popen(
        [*own.isola.argv, "logs", "ends", "-f"], env=own.isola.env, stdout=subprocess.PIPE, text=True
    )
    assert own.isola("wait", "ends").stdout == "3\n"
    assert follower.communicate(timeout=120)[0].split() == [str(number) for number in range(1, 31)]
    assert own.last_run("ends")["exit_status"] == 3
    info = own.isola("info", "ends").stdout
    assert "exit status: 3" in info


def test_output_that_is_not_kept_is_refused(own: Applications) -> None:
    own.launch("silent", "echo said; sleep 99", config={"isola.log.driver": "none"})
    assert "not kept" in own.isola("logs", "silent", check=False).stderr


def test_memory_that_is_used_up_is_recorded(own: Applications) -> None:
    own.launch("eats", "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done", config={"limits.memory": "24MiB"})
    last = own.last_run("eats")
    assert (last["exit_status"], last["oom_killed"]) == (137, True)
    own.launch("well", "exit 0", config={"limits.memory": "24MiB"})
    assert own.last_run("well")["oom_killed"] is False


@pytest.mark.parametrize(("command", "status"), [("/no/such", 127), ("/etc", 126)])
def test_a_program_that_cannot_be_run_has_the_status_of_a_shell(own: Applications, command: str, status: int) -> None:
    with pytest.raises((ApiError, AssertionError)):
        own.run(f"bad{status}", [command])
    last = own.last_run(f"bad{status}")
    assert last["exit_status"] == status and last["error"]


def test_a_crash_loop_goes_on_when_the_daemon_is_killed(own: Applications) -> None:
    own.launch("loops", "echo again; exit 4", config={"isola.restart": "always"})
    until(lambda: (own.get("loops")["last_run"] or {}).get("restarts", 0) >= 2)
    own.daemon.kill()
    own.daemon.start()
    before = own.get("loops")["last_run"]["restarts"]
    until(lambda: own.get("loops")["last_run"]["restarts"] > before)
    assert own.get("loops")["last_run"]["exit_status"] == 4
    own.isola("stop", "loops", "--force")
    assert own.last_run("loops")["exit_status"] in (4, 137), "between two runs, or during one"
    assert own.isola("logs", "loops").stdout.count("again") >= 3, "the log goes on"


def test_what_ended_while_no_daemon_ran_is_known(own: Applications) -> None:
    own.launch("short", "sleep 1; exit 5")
    own.launch("returns", "sleep 1; exit 6", config={"isola.restart": "on-failure:9"})
    pids = [own.daemon.pid(name) for name in ("short", "returns")]
    own.daemon.kill()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    own.daemon.start()
    assert own.last_run("short")["exit_status"] == 5
    until(lambda: own.get("returns")["last_run"]["restarts"] >= 1)
    assert own.get("returns")["last_run"]["exit_status"] == 6
    own.isola("delete", "returns", "--force")


def test_health_is_checked_and_survives_the_daemon(own: Applications) -> None:
    config = {
        "isola.health.command": "test -e /tmp/well",
        "isola.health.interval": "200ms",
        "isola.health.retries": "2",
    }
    own.launch("sick", "sleep 999", config=config)

    def health() -> str:
        found = own.daemon.get("/1.0/instances/sick/state")["health"]
        return str(found["status"])

    until(lambda: health() == "unhealthy")
    assert "unhealthy" in own.isola("list", "sick", "-c", "nh").stdout
    assert own.daemon.exec("sick", "touch", "/tmp/well")[0] == 0
    until(lambda: health() == "healthy")
    own.daemon.kill()
    own.daemon.start()
    assert health() == "healthy"
    own.isola("restart", "sick", "--force", "--wait", "healthy")
    assert own.isola("info", "sick").stdout.count("health: healthy") == 1


def test_processes_and_use_are_shown(own: Applications) -> None:
    own.launch("busy", "sleep 777 & while :; do :; done")
    shown = own.isola("top", "busy", "--", "-o", "pid,args").stdout
    assert "sleep 777" in shown and str(own.daemon.pid("busy")) in shown
    assert "PID" in own.isola("top", "busy").stdout
    assert "not options" in own.isola("top", "busy", "--", "$(x)", check=False).stderr
    [found] = json.loads(own.isola("stats", "busy", "-f", "json").stdout)
    assert found["cpu"] > 5 and found["processes"] >= 2 and 0 < found["memory"] < found["memory_limit"]
    assert "busy" in own.isola("stats").stdout
