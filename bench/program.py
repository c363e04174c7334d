"""Which isola is measured: the installed one, or that of this checkout."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
VARIABLE = "BENCH_PROGRAM"
"""Directory of the commands; the processes of subjects inherit it."""
INSTALLED = "/usr/local/bin"
LAUNCHERS = (("isola", "isola.cli.main", "/usr/bin/python3 -IS"), ("isolad", "isola.daemon.main", "{venv} -I"))
"""Command, module and interpreter, with the options that the installation gives them."""


def command(name: str) -> str:
    """Path of ``isola`` or ``isolad``."""
    return f"{os.environ.get(VARIABLE, INSTALLED)}/{name}"


def use_checkout(place: Path, root: Path = ROOT) -> None:
    """Write commands that run this checkout with its .venv into ``place``, and use them for the measurements."""
    place.mkdir()
    template = (root / "install" / "launcher.in").read_text()
    for name, module, interpreter in LAUNCHERS:
        python = interpreter.format(venv=root / ".venv" / "bin" / "python")
        text = template.replace("@PYTHON@", python).replace("@LIB@", str(root / "src")).replace("@MODULE@", module)
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    os.environ[VARIABLE] = str(place)
