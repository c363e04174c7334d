"""Configuration keys of the log of an instance's output."""

from __future__ import annotations

from isola.model.instance import Config
from isola.model.units import parse_size
from isola.runtimes import Log
from isola.settings import Setting, Settings, one_of, whole

DRIVER, SIZE, FILES = "isola.log.driver", "isola.log.max_size", "isola.log.max_files"
_APPLICATION, _SYSTEM = 128 << 20, 2 << 20
_LEAST = 1 << 20
"""Bytes of a file: smaller ones are full before the daemon can keep them."""


def _log_size(value: str) -> int:
    size = parse_size(value)
    if not 4096 <= size <= 1 << 40:
        raise ValueError("at least 4KiB are expected")
    return size


LOG_SETTINGS = Settings(
    "instance",
    Setting(
        DRIVER,
        one_of("json-file", "local", "none"),
        "Whether its output is kept: `none` does not, `json-file` and `local` do, in the same way.",
        "local",
    ),
    Setting(
        SIZE,
        _log_size,
        "Size at which a new log file is begun. By default 128MiB, for a system 2MiB. Files below 1MiB are"
        " larger on the disk.",
        expects="a size of at least 4KiB, such as 10MiB",
    ),
    Setting(
        FILES,
        whole(1, 100),
        "Number of log files that are kept, the present one included. By default 2, for a system 1.",
    ),
)


def log_of(config: Config, *, system: bool) -> Log:
    """How the output of an instance is kept: that of a system since its last start, that of an application longer."""
    size, files = _size_and_files(config, system=system)
    return Log(LOG_SETTINGS.value(config, DRIVER) != "none", max(size, _LEAST), files, fresh=system)


def shown_size(config: Config, *, system: bool) -> int | None:
    """How many bytes of the end of a log are shown, if its files are larger than they should be; None: all."""
    size, files = _size_and_files(config, system=system)
    return size * files if size < _LEAST else None


def _size_and_files(config: Config, *, system: bool) -> tuple[int, int]:
    size, files = LOG_SETTINGS.value(config, SIZE), LOG_SETTINGS.value(config, FILES)
    return (
        size if isinstance(size, int) else _SYSTEM if system else _APPLICATION,
        files if isinstance(files, int) else 1 if system else 2,
    )
