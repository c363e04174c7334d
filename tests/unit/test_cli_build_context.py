"""The directory that ``isola build`` sends."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from isola.cli.build_context import BuildContext


def sent(context: BuildContext) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(context.stream()))) as archive:
        return sorted(archive.getnames())


@pytest.mark.parametrize("name", ["", "Dockerfile"])
def test_where_there_is_no_dockerfile_with_a_capital_letter_the_other_is_sent(tmp_path: Path, name: str) -> None:
    given = f"{tmp_path}/{name}" if name else ""
    (tmp_path / "dockerfile").write_text("FROM a\n")
    (tmp_path / ".dockerignore").write_text("*\n")
    context = BuildContext(str(tmp_path), given)
    assert (context.dockerfile, sent(context)) == ("dockerfile", [".dockerignore", "dockerfile"])
    (tmp_path / "Dockerfile").write_text("FROM b\n")
    context = BuildContext(str(tmp_path), given)
    assert (context.dockerfile, sent(context)) == ("Dockerfile", [".dockerignore", "Dockerfile"])


def test_no_other_name_is_tried(tmp_path: Path) -> None:
    (tmp_path / "dockerfile").write_text("FROM a\n")
    (tmp_path / "other").write_text("FROM a\n")
    for given in ("Other", "DOCKERFILE"):
        with pytest.raises(FileNotFoundError):
            BuildContext(str(tmp_path), f"{tmp_path}/{given}")
