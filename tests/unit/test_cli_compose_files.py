"""Variables of the environment that say which files ``isola compose`` reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from isola.cli.compose import files


def test_environment_files_are_named_or_turned_off_by_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("A=file\n")
    assert files._environment(tmp_path, ())["A"] == "file"
    monkeypatch.setenv("COMPOSE_DISABLE_ENV_FILE", "true")
    assert "A" not in files._environment(tmp_path, ())
    assert files._environment(tmp_path, [str(tmp_path / ".env")])["A"] == "file"
