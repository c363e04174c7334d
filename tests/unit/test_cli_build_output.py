"""``isola build --output``: what is understood, what is written, and archives that want to write elsewhere."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from isola.cli.arguments import UsageError
from isola.cli.build_files import Unpacking
from isola.cli.build_output import BuildOutput
from isola.client.builds import _events
from isola.client.failures import BadReply
from isola.errors import InvalidInput


def archive(*members: tuple[str, str, str]) -> bytes:
    """Name, kind (``file``, ``dir``, ``link``, ``hard``, ``device``), content or target."""
    kinds = {"dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for name, kind, text in members:
            info = tarfile.TarInfo(name)
            info.mode, info.mtime = 0o4755 if kind == "file" else 0o555, 1000
            info.type = kinds.get(kind, tarfile.REGTYPE)
            if kind in ("link", "hard"):
                info.linkname = text
            data = text.encode() if kind == "file" else b""
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def unpack(place: Path, data: bytes) -> None:
    unpacking = Unpacking(str(place))
    for start in range(0, len(data), 700):
        unpacking.take(data[start : start + 700])
    unpacking.finish()


def test_files_are_written_and_replaced(tmp_path: Path) -> None:
    place = tmp_path / "a" / "out"
    for text in ("one", "two"):
        unpack(place, archive(("./", "dir", ""), ("d/", "dir", ""), ("d/f", "file", text), ("l", "link", "d/f"),
                              ("h", "hard", "d/f"), ("null", "device", "")))  # fmt: skip
    assert (place / "d/f").read_text() == "two" and (place / "l").read_text() == "two"
    assert sorted(each.name for each in place.iterdir()) == ["d", "h", "l"]
    assert (place / "h").stat().st_ino == (place / "d/f").stat().st_ino
    assert ((place / "d/f").stat().st_mode & 0o7777, (place / "d/f").stat().st_mtime) == (0o755, 1000), "no set-uid bit"
    assert (place / "d").stat().st_mode & 0o777 == 0o555


@pytest.mark.parametrize(
    "members",
    [
        [("../out", "file", "x")],
        [("a/../../out", "file", "x")],
        [("/out", "file", "x")],
        [("d", "link", ".."), ("d/out", "file", "x")],
        [("d", "link", ".."), ("d/", "dir", ""), ("d/out", "file", "x")],
        [("h", "hard", "../secret")],
        [("d", "link", ".."), ("h", "hard", "d/secret")],
    ],
)
def test_nothing_is_written_or_read_outside(tmp_path: Path, members: list[tuple[str, str, str]]) -> None:
    (tmp_path / "secret").write_text("secret")
    with pytest.raises((InvalidInput, OSError)):
        unpack(tmp_path / "place", archive(*members))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["place", "secret"]
    assert not (tmp_path / "place" / "h").exists() and (tmp_path / "secret").stat().st_nlink == 1


def test_a_link_of_the_user_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "f").symlink_to(tmp_path / "mine")
    unpack(tmp_path / "place", archive(("f", "file", "x")))
    assert (tmp_path / "mine").read_text() == "mine" and (tmp_path / "place/f").read_text() == "x"


def test_what_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        unpack(tmp_path, b"x" * 2000)


@pytest.mark.parametrize(
    ("text", "output", "push", "name"),
    [
        ("", "image", False, ""),
        ("type=docker", "image", False, ""),
        ("type=image,push=true,name=a:1", "image", True, "a:1"),
        ("out", "files", False, ""),
        ("type=tar,dest=x.tar", "files", False, ""),
        ("type=docker,dest=x.tar", "archive", False, ""),
        ("type=oci,dest=x.tar,name=a", "archive", False, "a"),
    ],
)
def test_outputs(text: str, output: str, push: bool, name: str) -> None:
    made = BuildOutput(text)
    assert (made.output, made.push, made.name, made.is_local) == (output, push, name, output != "image")


@pytest.mark.parametrize(
    "text", ["type=zip", "dest=x", "type=local", "type=local,dest=-", "type=image,dest=x", "type=tar,push=true,dest=x",
             "type=oci,dest=x,compression=zstd", "type=image,push=maybe"],
)  # fmt: skip
def test_outputs_that_are_not_understood(text: str) -> None:
    with pytest.raises(UsageError):
        BuildOutput(text)


def test_an_archive_is_there_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with BuildOutput(f"type=tar,dest={path}") as output:
        output.take(b"some")
    assert list(tmp_path.iterdir()) == [], "the build has failed"
    with BuildOutput(f"type=tar,dest={path}") as output:
        output.take(b"some")
        output.take(b"thing")
        output.finish()
    assert path.read_bytes() == b"something" and list(tmp_path.iterdir()) == [path]


def test_pieces_between_lines() -> None:
    stream = b'{"type":"step"}\n{"type":"data","size":5}\na\nb{}{"type":"data","size":0}\n{"type":"done"}\n'
    for size in (1, 3, 1000):
        taken: list[bytes] = []
        blocks = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert [each["type"] for each in _events(blocks, taken.append)] == ["step", "done"]
        assert b"".join(taken) == b"a\nb{}"
    with pytest.raises(BadReply, match="does not conform"):
        list(_events([b'{"type":"data","size":-1}\n'], None))
