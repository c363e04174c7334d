"""The reference page of bridge networks matches the table of settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from isola.network.bridge.config import SETTINGS
from isola.settings import Setting

PAGE = Path(__file__).parents[2] / "docs/reference/network/bridge.md"


@pytest.mark.parametrize("row", list(SETTINGS), ids=lambda row: row.key)
def test_every_key_has_a_row(row: Setting) -> None:
    default = "" if row.default is None else f"`{row.default}`"
    assert f"| `{row.key}` | {default} | {row.help} |" in PAGE.read_text().splitlines()


def test_every_row_has_a_key() -> None:
    _, _, table = PAGE.read_text().partition("## Configuration")
    named = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert named == [row.key for row in SETTINGS]
