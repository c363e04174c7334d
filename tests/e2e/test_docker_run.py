"""Debian's ``docker`` command, unmodified: containers are run, attached to, entered, observed and removed."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Cli
from daemon import Daemon
from docker_command import Docker
from https_peer import der_of, pair
from waiting import until

pytestmark = pytest.mark.usefixtures("busybox")


@pytest.fixture(scope="module")
def docker(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Docker:
    assert shutil.which("docker"), "the docker command line is needed"
    return Docker(daemon, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def busybox(daemon: Daemon) -> Iterator[None]:
    """An image of that name."""
    isola = Cli(daemon)
    isola("image", "build", "busybox", "--alias", "busybox")
    yield
    isola("image", "delete", "busybox")


@pytest.fixture(autouse=True)
def nothing_left(docker: Docker) -> Iterator[None]:
    yield
    for id in docker("ps", "-aq").split():
        docker("rm", "-fv", id)
    docker("volume", "prune", "-af")


def test_output_errors_input_and_exit_status_of_attached_runs(docker: Docker) -> None:
    script = "cat; echo err >&2; exit 7"
    out, err = docker.both("run", "--rm", "-i", "busybox", "sh", "-c", script, status=7, stdin="in\n")
    assert (out, err) == ("in\n", "err\n")
    assert docker("ps", "-aq") == ""
    assert "executable file not found" in docker.both("run", "--rm", "busybox", "nosuch", status=127)[1]
    assert "permission denied" in docker.both("run", "--rm", "busybox", "/etc", status=126)[1]
    assert docker("ps", "-aq") == ""


def test_a_terminal_has_the_size_of_the_clients(docker: Docker) -> None:
    docker("run", "-d", "--name", "box", "busybox", "sleep", "100")
    for command in (["run", "--rm", "-it", "busybox"], ["exec", "-it", "box"]):
        primary, secondary = pty.openpty()
        os.set_inheritable(secondary, True)
        subprocess.run(["stty", "rows", "33", "cols", "99"], stdin=secondary, check=True)
        shell = docker.start(*command, "sh", stdin=secondary, stdout=secondary, stderr=secondary)
        os.close(secondary)
        seen = b""
        os.write(primary, b"sleep 0.5; stty size; tty; exit 5\n")
        try:
            while data := os.read(primary, 4096):
                seen += data
        except OSError:  # the end of a terminal
            pass
        os.close(primary)
        assert shell.wait(60) == 5
        assert b"33 99" in seen and b"/dev/pts/" in seen


def test_the_life_of_a_container(docker: Docker) -> None:
    id = docker("run", "-d", "--name", "box", "busybox", "sleep", "1000").strip()
    assert docker("ps", "-q", "--no-trunc").strip() == id
    assert docker("start", "box") == "box\n", "starting it twice is no error"
    docker("pause", "box")
    assert "(Paused)" in docker("ps", "--format", "{{.Status}}")
    assert "is paused" in docker.both("exec", "box", "true", status=1)[1]
    docker("unpause", "box")
    docker("kill", "-s", "HUP", "box")
    before = docker.inspect("box")["State"]["StartedAt"]
    docker("restart", "-t", "0", "box")
    assert docker.inspect("box")["State"]["StartedAt"] > before
    assert "stop the container before removing or force remove" in docker.both("rm", "box", status=1)[1]
    docker("stop", "-t", "0", "box")
    state = docker.inspect("box")["State"]
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("exited", 137, 0)
    docker("rename", "box", "other")
    assert docker("ps", "-a", "--format", "{{.Names}}") == "other\n"
    docker("rm", "other")
    assert "No such container: box" in docker.both("rm", "box", status=1)[1]


def test_waiting_gives_the_exit_status(docker: Docker) -> None:
    docker("run", "-d", "--name", "box", "-i", "busybox", "sh", "-c", "sleep 0.5; exit 9")
    assert docker("wait", "box") == "9\n"
    assert docker("wait", "box") == "9\n"


def test_attaching_detaching_and_signals(docker: Docker) -> None:
    docker(
        "run", "-d", "--name", "box", "busybox", "sh", "-c", "trap 'echo got; exit 3' TERM; while :; do sleep 0.1; done"
    )
    attached = docker.start("attach", "--no-stdin", "box")
    until(lambda: attached.poll() is None, 5)
    subprocess.run(["sleep", "0.5"], check=True)
    attached.send_signal(signal.SIGTERM)  # the command passes it on
    out, _ = attached.communicate(timeout=120)
    assert (out, attached.returncode) == ("got\n", 3)


def test_commands_have_their_user_directory_environment_and_status(docker: Docker) -> None:
    docker("run", "-d", "--name", "box", "-e", "A=1", "busybox", "sleep", "100")
    out = docker("exec", "-u", "12:34", "-w", "/tmp", "-e", "B=2", "box", "sh", "-c", "id -u; id -g; pwd; echo $A $B")
    assert out == "12\n34\n/tmp\n1 2\n"
    assert docker("exec", "-i", "box", "cat", stdin="x" * 100_000) == "x" * 100_000
    assert docker.both("exec", "box", "sh", "-c", "echo e >&2; exit 4", status=4) == ("", "e\n")
    _, said = docker.both("exec", "-u", "nosuch", "box", "true", status=1)
    assert "unable to find user nosuch: no matching entries in passwd file" in said
    docker("exec", "-d", "box", "sh", "-c", "echo done >/tmp/late")
    until(lambda: docker("exec", "box", "sh", "-c", "cat /tmp/late 2>/dev/null || true") == "done\n", 10)


def test_logs_are_complete_chosen_and_followed(docker: Docker) -> None:
    docker("run", "--name", "box", "busybox", "sh", "-c", "for i in 1 2 3; do echo out$i; echo err$i >&2; done")
    out, err = docker.both("logs", "box")
    assert (out, err) == ("out1\nout2\nout3\n", "err1\nerr2\nerr3\n")
    assert docker("logs", "--tail", "1", "box") + docker.both("logs", "--tail", "1", "box")[1] in ("err3\n", "out3\n")
    stamped = docker("logs", "-t", "box").splitlines()
    assert all(line[4] == "-" and line.partition(" ")[0].endswith("Z") for line in stamped) and len(stamped) == 3
    docker("run", "-d", "--name", "slow", "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.3; done")
    assert docker("logs", "-f", "slow") == "1\n2\n3\n", "it ends with the run"


def test_mounts_ports_and_limits_have_effect_and_are_shown(docker: Docker, daemon: Daemon, tmp_path: Path) -> None:
    source = tmp_path / "made"
    docker(
        "run", "-d", "--name", "box", "-p", "127.0.0.1:18081:80", "-v", f"{source}:/data", "-v", "kept:/kept",
        "-v", "/own", "--tmpfs", "/scratch:size=1m", "--read-only", "--memory", "64m", "--cpus", "0.5",
        "--ulimit", "nofile=100:200", "--hostname", "named", "--add-host", "db:192.0.2.7", "--label", "a.b=c",
        "busybox", "sh", "-c", "cd /kept && echo page >index.html && exec httpd -f -p 80",
    )  # fmt: skip
    inside = "touch /data/x /own/x /scratch/x; touch /x; ulimit -n; hostname; grep -c '192.0.2.7.*db' /etc/hosts"
    out, err = docker.both("exec", "box", "sh", "-c", inside)
    assert out == "100\nnamed\n1\n" and "Read-only" in err
    assert (source / "x").exists()
    until(lambda: "page" in daemon.inside("curl", "-s", "http://127.0.0.1:18081/", check=False).stdout, 15)
    shown = docker.inspect("box")
    assert {each["Destination"]: each["Type"] for each in shown["Mounts"]} == {
        "/data": "bind", "/kept": "volume", "/own": "volume",
    }  # fmt: skip
    assert "/scratch" in shown["HostConfig"]["Tmpfs"]
    assert (shown["HostConfig"]["Memory"], shown["HostConfig"]["NanoCpus"]) == (64 * 2**20, 5 * 10**8)
    assert shown["Config"]["Labels"]["a.b"] == "c" and shown["HostConfig"]["ReadonlyRootfs"]
    docker("update", "--memory", "128m", "--memory-swap", "128m", "box")
    assert docker.inspect("box")["HostConfig"]["Memory"] == 128 * 2**20
    assert docker("port", "box") == "80/tcp -> 127.0.0.1:18081\n"
    volumes = docker("volume", "ls", "-q").split()
    docker("rm", "-fv", "box")
    assert len(volumes) == 2 and docker("volume", "ls", "-q").split() == ["kept"]


def test_health_and_restarts(docker: Docker) -> None:
    docker(
        "run", "-d", "--name", "box", "--health-cmd", "test -e /ok", "--health-interval", "200ms",
        "--health-retries", "1", "busybox", "sleep", "100",
    )  # fmt: skip
    until(lambda: docker.inspect("box")["State"]["Health"]["Status"] == "unhealthy", 15)
    docker("exec", "box", "touch", "/ok")
    until(lambda: "(healthy)" in docker("ps", "--format", "{{.Status}}"), 15)
    assert docker("ps", "-q", "--filter", "health=healthy").split()
    docker("run", "-d", "--name", "again", "--restart", "on-failure:2", "busybox", "false")
    until(lambda: docker.inspect("again")["RestartCount"] == 2, 20)
    until(lambda: docker.inspect("again")["State"]["Status"] == "exited", 20)


def test_what_it_uses_and_runs_is_shown(docker: Docker) -> None:
    docker("run", "-d", "--name", "box", "busybox", "sh", "-c", "while :; do :; done")
    line = json.loads(docker("stats", "--no-stream", "--format", "json", "box"))
    assert line["Name"] == "box" and int(line["PIDs"]) == 1 and float(line["CPUPerc"].rstrip("%")) > 1
    assert "while :" in docker("top", "box") and "COMMAND" in docker("top", "box", "-o", "pid,args")
    assert "while :" in docker("top", "box", "aux", "--sort", "-rss") and "while :" in docker("top", "box", "axf")
    assert docker("system", "df", "--format", "{{.Type}} {{.TotalCount}}").splitlines()[1] == "Containers 1"
    assert "Server:" in docker("info") and "Isola" in docker("version")


def test_events_tell_what_has_happened(docker: Docker) -> None:
    docker("run", "--name", "box", "--label", "tier=front", "busybox", "sh", "-c", "exit 3", status=3)
    docker("rm", "box")
    until_then = str(int(time.time()) + 1)  # the command cuts off fractions of a second
    follow = ("events", "--since", "1h", "--until", until_then, "--filter", "type=container", "--format", "{{json .}}")
    events = [json.loads(line) for line in docker(*follow, "--filter", "label=tier=front").splitlines()]
    assert [event["Action"] for event in events] == ["create", "attach", "start", "die", "destroy"]
    assert events[3]["Actor"]["Attributes"]["exitCode"] == "3"
    assert {event["Actor"]["Attributes"]["name"] for event in events} == {"box"}


def test_limits_details_and_privileges_as_docker_words_them(docker: Docker) -> None:
    said = docker.both("run", "--rm", "--cpus", "4000", "busybox", "true", status=125)[1]
    assert "range of CPUs is from 0.01 to " in said and docker("ps", "-aq") == ""
    assert (
        "stat /dev/nosuch: no such file"
        in docker.both("run", "--rm", "--device-read-bps", "/dev/nosuch:1mb", "busybox", "true", status=127)[1]
    )
    details = ("--label", "a=b", "-e", "X=1", "--log-opt", "labels=a", "--log-opt", "env=X")
    limits = ("--memory", "32m", "--memory-swap", "32m", "--cpu-quota", "50000")
    docker("run", "-d", "--name", "box", *details, *limits, "busybox", "sh", "-c", "echo hi; sleep 100")
    assert "already set memoryswap limit" in docker.both("update", "-m", "64m", "box", status=1)[1]
    docker("update", "-m", "64m", "--memory-swap", "64m", "--cpu-period", "200000", "box")
    host = docker.inspect("box")["HostConfig"]
    assert [host[name] for name in ("Memory", "MemorySwap", "CpuQuota", "CpuPeriod")] == [2**26, 2**26, 50000, 200000]
    until(lambda: docker("logs", "--details", "box") == "X=1,a=b hi\n")
    usual, every = (
        int(docker("exec", *options, "box", "grep", "CapEff", "/proc/self/status").split()[1], 16)
        for options in ((), ("--privileged",))
    )
    assert usual != every and usual & every == usual
    assert docker.both("exec", "-w", "tmp", "box", "pwd", status=126)[0].endswith("Cwd must be an absolute path\n")
    assert "ps: error: unknown user-defined format" in docker.both("top", "box", "-o", "bogus", status=1)[1]


def test_namespaces_of_another_container(docker: Docker) -> None:
    docker("run", "-d", "--name", "first", "busybox", "sleep", "1000")
    address = docker("exec", "first", "sh", "-c", "ip -4 -o addr show eth0")
    joined = docker("run", "--rm", "--network", "container:first", "busybox", "sh", "-c", "ip -4 -o addr show eth0")
    assert joined == address != ""
    assert docker("run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net").split() == ["lo"]
    assert "gives access to the host" in docker.both("run", "--rm", "--privileged", "busybox", "true", status=125)[1]


def test_prune_removes_what_does_not_run(docker: Docker) -> None:
    docker("run", "--name", "done", "busybox", "true")
    docker("run", "-d", "--name", "runs", "busybox", "sleep", "100")
    assert "Total reclaimed space" in docker("container", "prune", "-f")
    assert docker("ps", "-a", "--format", "{{.Names}}") == "runs\n"


def test_no_swarm(docker: Docker) -> None:
    assert "This node is not a swarm manager" in docker.both("service", "ls", status=1)[1]
    assert docker("plugin", "ls", "-q") == ""


def test_the_same_over_tls(docker: Docker, daemon: Daemon, tmp_path: Path) -> None:
    shown, port = pair(), 18449
    daemon.run("PATCH", "/1.0", {"config": {"core.https_address": f"127.0.0.1:{port}"}})
    daemon.run("POST", "/1.0/certificates", {"type": "client", "certificate": der_of(shown)})
    (tmp_path / "cert.pem").write_text(shown.certificate)
    (tmp_path / "key.pem").write_text(shown.key)
    shutil.copy(daemon.directory / "server.crt", tmp_path / "ca.pem")
    tls = {"DOCKER_HOST": f"tcp://127.0.0.1:{port}", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}

    def over_tls(*argv: str, stdin: str = "") -> str:
        done = daemon.inside("docker", *argv, env=docker.env | tls, input=stdin, check=False)
        return done.stdout + done.stderr

    try:
        assert over_tls("run", "--rm", "busybox", "echo", "hi") == "hi\n"
        assert over_tls("run", "--rm", "-i", "busybox", "cat", stdin="in\n") == "in\n", "the end of input arrives"
        docker("run", "-d", "--name", "box", "busybox", "sleep", "100")
        assert over_tls("exec", "-i", "box", "wc", "-c", stdin="x" * 300_000) == "300000\n"
        paths = ",".join(f"{key}={tmp_path / key}.pem" for key in ("ca", "cert", "key"))
        docker("context", "create", "remote", "--docker", f"host=tcp://127.0.0.1:{port},{paths}")
        del tls["DOCKER_HOST"], tls["DOCKER_TLS_VERIFY"], tls["DOCKER_CERT_PATH"], docker.env["DOCKER_HOST"]
        assert over_tls("--context", "remote", "ps", "--format", "{{.Names}}") == "box\n"
        assert over_tls("--context", "remote", "run", "--rm", "busybox", "echo", "hi") == "hi\n"
        docker("context", "create", "naked", "--docker", f"host=tcp://127.0.0.1:{port},ca={tmp_path / 'ca.pem'}")
        assert "Only trusted callers" in over_tls("--context", "naked", "ps")
    finally:
        docker.env["DOCKER_HOST"] = docker.host
        daemon.run("PATCH", "/1.0", {"config": {"core.https_address": ""}})
