"""The installed program: replaced under a running daemon, taken down, removed, all below a directory of the test."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import Daemon

from isola.model.capabilities import granted
from isola.testing.images import tiny_image

CHECKOUT = Path(__file__).parents[2]


class Installation:
    """A checkout and the installation made from it, both in one directory."""

    def __init__(self, place: Path) -> None:
        self.place, self._kept = place / "used", place / "kept"
        place = self.place
        self.root = place / "root"
        self.checkout = place / "checkout"
        self.commands = self.root / "usr/local/bin"
        self.prefix = self.root / "opt/isola"
        self.calls = place / "systemctl-calls"
        tools = place / "tools"
        for directory in (self.prefix, self.checkout, tools):
            directory.mkdir(parents=True)
        (tools / "systemctl").write_text(f'#!/bin/sh\necho "$@" >>{self.calls}\n')
        (tools / "systemctl").chmod(0o755)
        self._environment = os.environ | {
            "ISOLA_ROOT": str(self.root),
            "ISOLA_GUEST_KIT": str(Path(sys.prefix) / "guest"),
            "PATH": f"{tools}:{os.environ['PATH']}",
        }
        for name in ("src", "install"):
            shutil.copytree(CHECKOUT / name, self.checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(CHECKOUT / "requirements.lock", self.checkout)
        self._libraries()

    def keep(self) -> None:
        """What it is now can be brought back: an installation takes seconds, and knows its path."""
        subprocess.run(["cp", "-a", self.place, self._kept], check=True)

    def bring_back(self) -> None:
        subprocess.run(["rm", "-rf", self.place], check=True)
        subprocess.run(["cp", "-al", self._kept, self.place], check=True)  # an installation replaces files

    def _libraries(self) -> None:
        """The libraries of the tests, under the path of the installation's own."""
        lock = hashlib.sha256((CHECKOUT / "requirements.lock").read_bytes()).hexdigest()
        version = subprocess.run(["/usr/bin/python3", "-V"], capture_output=True, text=True, check=True).stdout
        name = hashlib.sha256(f"{version}{lock}  requirements.lock\n".encode()).hexdigest()[:12]
        place = self.prefix / f"venv-{name}"
        subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", place], check=True)
        site = next(place.glob("lib/python*/site-packages"))
        for item in Path(sysconfig.get_path("purelib")).iterdir():
            if not item.name.startswith("isola"):
                (site / item.name).symlink_to(item)
        (site / "isola.pth").write_text("import os, sys; sys.path.append(os.path.dirname(sys.prefix))\n")

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.checkout / "install" / script, *arguments],
            env=self._environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def install(self) -> None:
        done = self.run("program")
        assert done.returncode == 0, done.stderr

    def change(self) -> None:
        """Create a new version, in which the helper process for images is changed."""
        (self.checkout / "src/isola/host/archive/archiver.py").rename(
            self.checkout / "src/isola/host/archive/archiver_renamed.py"
        )

    def copies(self) -> set[str]:
        return {path.name for path in self.prefix.glob("lib-*")}

    def debian(self) -> None:
        """A package manager with one package, which creates a user, an empty directory and one with files."""
        (self.root / "etc").mkdir(parents=True, exist_ok=True)
        (self.root / "run").mkdir()
        (self.root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
        installed = self.root / "installed"
        for name, script in {
            "dpkg-query": f"[ ! -e {installed} ] || echo 'ii  island'",
            "apt-get": f"""case "$*" in
                *-s*purge*) echo "Purg island" ;;
                *purge*) rm {installed} ;;
                *install*) touch {installed}; mkdir {self.root}/run/island {self.root}/var/lib/island
                    touch {self.root}/var/lib/island/kept; echo island:x:7:7:::: >>{self.root}/etc/passwd ;;
                esac""",
            "userdel": f"sed -i /^$1:/d {self.root}/etc/passwd",
        }.items():
            (self.calls.parent / "tools" / name).write_text(f"#!/bin/sh\n{script}\n")
            (self.calls.parent / "tools" / name).chmod(0o755)
        (self.checkout / "install/lists/trial").write_text("island\n")

    def systemd(self) -> None:
        """Simulate a machine that runs systemd with the unit."""
        for directory in ("run/systemd/system", "etc/systemd/system"):
            (self.root / directory).mkdir(parents=True)
        (self.root / "etc/systemd/system/isola.service").touch()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    installation = Installation(tmp_path_factory.mktemp("installation"))
    installation.install()
    installation.keep()
    return installation


@pytest.fixture
def installation(made: Installation) -> Installation:
    """As it was made: of a machine without systemd, without what guests start from."""
    made.bring_back()
    return made


@pytest.fixture
def installed(installation: Installation) -> Iterator[Daemon]:
    """A daemon that runs from the installation."""
    daemon = Daemon()
    daemon.program = (str(installation.commands / "isolad"),)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.program = (sys.executable, "-m", "isola.daemon.main")
        daemon.close()


def test_nothing_is_repeated(made: Installation) -> None:
    before = (made.commands / "isolad").stat().st_mtime_ns, made.copies()
    done = made.run("program")
    assert (done.returncode, done.stdout) == (0, "")
    assert ((made.commands / "isolad").stat().st_mtime_ns, made.copies()) == before
    shown = subprocess.run([made.commands / "isola", "--help"], capture_output=True, text=True, check=True)
    assert "launch" in shown.stdout


def test_commands_find_the_libraries_of_the_installation(made: Installation, tmp_path: Path) -> None:
    """A certificate is made with a library, a configuration is read with another one."""
    environment = os.environ | {"HOME": str(tmp_path), "ISOLA_DEBUG": "1"}
    isola = str(made.commands / "isola")
    token = base64.b64encode(
        b'{"client_name":"c","fingerprint":"00","addresses":["127.0.0.1:1"],"secret":"s"}'
    ).decode()
    refused = subprocess.run(
        [isola, "remote", "add", "one", token], capture_output=True, text=True, env=environment, check=False
    )
    assert "127.0.0.1:1" in refused.stderr and "ModuleNotFoundError" not in refused.stderr
    assert list(tmp_path.rglob("client.key")), "the client's certificate was made"
    read = subprocess.run(
        [isola, "profile", "edit", "default", "--dir", str(tmp_path)],
        input="config: {}", capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert "ModuleNotFoundError" not in read.stderr


def wheel(place: Path) -> str:
    """A library ``island`` in the directory, and its line for a lock file."""
    path, about = place / "island-1.0-py3-none-any.whl", "island-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("island.py", "sand = True\n")
        file.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: island\nVersion: 1.0\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")
    return f"island==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def test_libraries_are_those_of_the_lock_alone(installation: Installation, tmp_path: Path) -> None:
    line, lock = wheel(tmp_path), installation.checkout / "requirements.lock"
    before = (installation.commands / "isolad").read_text()
    wheels = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    lock.unlink()  # another file than the one that is kept
    lock.write_text(re.sub("sha256:.*", f"sha256:{'0' * 64}", line))
    refused = installation.run("program", **wheels)
    assert refused.returncode != 0 and "HASHES" in refused.stderr
    assert (installation.commands / "isolad").read_text() == before
    lock.write_text(line)
    done = installation.run("program", **wheels)
    assert done.returncode == 0, done.stderr
    assert (installation.commands / "isolad").read_text() != before
    (site,) = installation.prefix.glob("venv-*/lib/python3*/site-packages")
    names = {path.name for path in site.iterdir()} - {"__pycache__"}
    assert names == {"island.py", "island-1.0.dist-info", "isola.pth"}
    assert list(site.glob("__pycache__/island.*.pyc")), "it is compiled"


def test_what_guests_start_from_is_installed_beside_the_program(installation: Installation) -> None:
    (installation.checkout / ".venv").symlink_to(sys.prefix)
    for made in (True, False):
        done = installation.run("program", ISOLA_GUEST_KIT="")
        assert done.returncode == 0, done.stderr
        assert made or done.stderr == ""  # at first that of the checkout is taken, if it is not older than the sources
        (program,) = installation.prefix.glob("lib-*")
        assert json.loads((program / "guest/kit.json").read_text())["release"].endswith("-amd64")
    kits = list(installation.prefix.glob("guest-*"))
    old = installation.prefix / "guest-000000000000"
    old.mkdir()
    installation.install()
    assert list(installation.prefix.glob("guest-*")) == kits


def test_a_running_daemon_survives_a_new_version(installation: Installation, installed: Daemon, tmp_path: Path) -> None:
    old = installation.copies()
    assert len(old) == 1
    installation.change()
    installation.install()
    both = installation.copies()
    assert len(both) == 2
    # Late imports and helper processes still use the version of the running daemon.
    installed.import_image(Path(tiny_image(tmp_path)), "tiny")
    installed.launch("one")
    assert installed.exec("one", "echo", "here")[:2] == (0, "here\n")
    installed.stop()
    installation.install()
    assert installation.copies() == both - old


def test_removal_is_refused_while_another_daemon_runs_from_it(installation: Installation, installed: Daemon) -> None:
    refused = installation.run("uninstall", KEEP_PACKAGES="1", YES="1")
    assert refused.returncode == 1
    assert f"isolad --dir {installed.directory} --stop --instances" in refused.stderr
    assert (installation.commands / "isolad").exists()
    installed.stop(instances=True)
    kept = installation.root / "var/lib/isola/isola.db"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.touch()
    removed = installation.run("uninstall", KEEP_PACKAGES="1", KEEP_DATA="1", YES="1")
    assert removed.returncode == 0, removed.stderr
    assert kept.exists() and f"stay in {kept.parent}" in removed.stdout
    assert not installation.prefix.exists()
    installation.bring_back()
    kept.parent.mkdir(parents=True)
    kept.touch()
    removed = installation.run("uninstall", KEEP_PACKAGES="1", YES="1")
    assert not kept.exists()
    assert removed.returncode == 0, removed.stderr
    assert not installation.prefix.exists()
    assert not (installation.commands / "isolad").exists()


def test_a_process_of_another_user_is_not_taken_for_a_daemon(installation: Installation, tmp_path: Path) -> None:
    """Any user, also root of an instance, may choose names of processes, and the output suggests commands to root."""
    place = Path(tempfile.mkdtemp(prefix="isola-forged-"))
    (place / "isola.db").touch()
    name = f"{installation.prefix}/lib-1/environment/bin/python"
    with (place / "daemon.lock").open("w") as lock:
        forged = subprocess.Popen(
            [name, "60"], executable="/bin/sleep", user=1234, group=1234, extra_groups=[], pass_fds=[lock.fileno()]
        )
    try:
        removed = installation.run("uninstall", KEEP_PACKAGES="1", YES="1")
        assert removed.returncode == 0, removed.stderr
    finally:
        forged.kill()
        forged.wait()
        shutil.rmtree(place)


def test_the_directory_of_a_guests_agent_stays(installation: Installation) -> None:
    """In a virtual machine of Isola it is mounted by the host of the machine; what the program noted in /run goes."""
    run = installation.root / "run"
    (run / "isola").mkdir(parents=True)
    (run / "isola-guests").mkdir()
    (run / "isola-sandbox-platform.json").touch()
    subprocess.run(["mount", "-t", "tmpfs", "agent", run / "isola"], check=True)
    try:
        (run / "isola/agent").touch()
        removed = installation.run("uninstall", KEEP_PACKAGES="1", YES="1")
        assert removed.returncode == 0, removed.stderr
        assert [path.name for path in run.iterdir()] == ["isola"] and (run / "isola/agent").exists()
    finally:
        subprocess.run(["umount", run / "isola"], check=True)


def test_users_and_directories_of_packages_are_removed_with_them(installation: Installation) -> None:
    installation.debian()
    (installation.root / "var/lib").mkdir(parents=True)
    done = installation.run("packages", "trial")
    assert done.returncode == 0, done.stderr
    assert "island" in (installation.root / "etc/passwd").read_text()
    removed = installation.run("uninstall", YES="1")
    assert removed.returncode == 0, removed.stderr
    assert not (installation.root / "installed").exists()
    assert (installation.root / "etc/passwd").read_text() == "root:x:0:0::/:/bin/sh\n"
    assert not (installation.root / "run/island").exists()
    assert (installation.root / "var/lib/island/kept").exists()
    assert not (installation.root / "var/lib/isola-install").exists()


def test_removing_a_second_daemon_keeps_the_unit(installation: Installation, installed: Daemon) -> None:
    installation.systemd()
    done = installation.run("down", ISOLA_DIR=str(installed.directory))
    assert done.returncode == 0, done.stderr
    assert not installation.calls.exists()
    done = installation.run("down")
    assert done.returncode == 0, done.stderr
    assert "disable" in installation.calls.read_text()


def test_a_failing_daemon_does_not_block_the_installation(installation: Installation) -> None:
    place = installation.root / "var/lib/isola"
    (place / "isola.db").mkdir(parents=True)
    failed = installation.run("up")
    assert failed.returncode != 0
    assert "isolad did not start" in failed.stderr


def dropped() -> set[str]:
    """Capabilities that the unit takes from the daemon."""
    lines = (CHECKOUT / "install/isola.service").read_text().splitlines()
    rows = [line.split("=~")[1] for line in lines if line.startswith("CapabilityBoundingSet=")]
    return {name.removeprefix("CAP_") for row in rows for name in row.split()}


def test_the_unit_takes_no_capability_that_an_instance_may_have() -> None:
    given = granted(system=True, bounding={f"CAP_{name}" for name in dropped()})
    assert dropped()
    assert given == ()


def test_instances_run_under_a_daemon_that_is_confined_as_by_the_unit(tmp_path: Path) -> None:
    daemon = Daemon()
    names = ",".join(f"-{name.lower()}" for name in sorted(dropped()))
    daemon.program = ("setpriv", "--bounding-set", names, *daemon.program)
    try:
        daemon.start()
        assert daemon.process is not None
        bounding = int(re.findall(r"CapBnd:\s*(\w+)", Path(f"/proc/{daemon.process.pid}/status").read_text())[0], 16)
        assert not bounding >> 16 & 1  # CAP_SYS_MODULE
        daemon.import_image(Path(tiny_image(tmp_path)), "tiny")
        daemon.launch("one", config={"limits.memory": "64MiB", "limits.cpu": "1"})
        assert daemon.exec("one", "echo", "here")[:2] == (0, "here\n")
    finally:
        daemon.close()


def test_systemd_accepts_every_line_of_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    assert analyze, "systemd-analyze comes with Debian's systemd"
    unit = tmp_path / "isola.service"
    text = (CHECKOUT / "install/isola.service").read_text()
    unit.write_text(text.replace("/usr/local/bin/isolad", "/bin/true"))
    done = subprocess.run([analyze, "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert "isola.service" not in done.stderr, done.stderr
