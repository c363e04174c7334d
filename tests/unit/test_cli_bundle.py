"""The bundle of the command line's modules, and the launcher that uses it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from isola import __version__
from isola.cli.bundle import PACKAGES, write

ROOT = Path(__file__).parents[2]
LATER = Path("/opt/isola/lib-later")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """An installed copy with its bundle and its command ``isola``."""
    for package in sorted((*PACKAGES, "isola/cli/compose", "isola/model")):
        (tmp_path / package).mkdir()
        for source in (ROOT / "src" / package).glob("*.py"):
            shutil.copy(source, tmp_path / package)
    write(tmp_path, LATER)
    text = (ROOT / "install/bundled-launcher.in").read_text().replace("@PYTHON@", f"{sys.executable} -IS")
    launcher = tmp_path / "command"
    launcher.write_text(text.replace("@LIB@", str(tmp_path)).replace("@MODULE@", "isola.cli.main"))
    launcher.chmod(0o755)
    return tmp_path


def run(library: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([library / "command", *argv], capture_output=True, text=True, check=False, timeout=60)


def bundle(library: Path) -> Path:
    return library / f"isola.{sys.implementation.cache_tag}"


def test_the_command_runs_from_the_bundle(library: Path) -> None:
    shutil.rmtree(library / "isola/cli")
    done = run(library, "--version")
    assert (done.stdout, done.stderr, done.returncode) == (f"isola {__version__}\n", "", 0)


def test_modules_outside_of_the_bundle_come_from_their_files(library: Path) -> None:
    done = run(library, "info", "--help")
    assert done.returncode == 0, done.stderr


def test_the_bundle_of_another_python_is_not_used(library: Path) -> None:
    bundle(library).rename(library / "isola.cpython-399")
    assert run(library, "--version").stdout == f"isola {__version__}\n"


def test_every_module_of_the_bundle_is_imported_from_it(library: Path) -> None:
    code = (library / "command").read_text().partition("from isola")[0] + (
        "for name in index:\n"
        "    __import__(name)\n"
        "    module = sys.modules[name]\n"
        "    assert type(module.__spec__.loader) is finder.Finder, name\n"
        "    assert (module.__package__ or '') == (name if index[name][0] else name.rpartition('.')[0]), name\n"
        "print(*sorted(index), sep='\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    files = {each.relative_to(library) for package in PACKAGES for each in (library / package).glob("*.py")}
    assert set(done.stdout.split()) == {
        str(file.with_suffix("")).replace("/", ".").removesuffix(".__init__") for file in files
    }


def test_a_traceback_names_the_files_of_the_installation(library: Path) -> None:
    code = (library / "command").read_text().partition("from isola")[0]
    code += "from isola.client.json import decode\nprint(decode.__code__.co_filename)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"{LATER}/isola/client/json.py\n"


def test_a_closed_input_stays_closed(library: Path) -> None:
    """The bundle must not be read in its place."""
    command = f"exec {library}/command query --data - /1.0 --dir {library} <&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert "Cannot reach the daemon" in done.stderr
