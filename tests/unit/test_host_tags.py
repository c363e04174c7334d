"""Daemons on one host have different tags, although a tag has only four digits."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from isola.errors import Conflict
from isola.host.tags import claim, names_of
from isola.model.identity import HostNames


def namesake(directory: Path) -> Path:
    """A directory beside it whose daemon would have the same tag."""
    wanted = HostNames.of_directory(str(directory))
    names = (f"{directory}-{number}" for number in itertools.count())
    found = Path(next(name for name in names if HostNames.of_directory(name) == wanted))
    found.mkdir()
    return found


@pytest.fixture
def one(tmp_path: Path) -> Path:
    (tmp_path / "one").mkdir()
    return tmp_path / "one"


def test_a_tag_is_claimed_and_stays(one: Path, tmp_path: Path) -> None:
    tags = tmp_path / "tags"
    for _ in range(2):
        names = claim(one, tags)
        assert names == names_of(one) == HostNames.of_directory(str(one))
        assert os.readlink(tags / names.tag) == str(one)
    assert os.listdir(one) == []


def test_the_second_daemon_takes_another_tag_and_stores_it(one: Path, tmp_path: Path) -> None:
    tags, two = tmp_path / "tags", namesake(one)
    first, second = claim(one, tags), claim(two, tags)
    assert first.tag != second.tag
    (two / "isola.db").touch()
    for _ in range(2):
        assert (claim(two, tags), claim(one, tags)) == (second, first)
    for link in tags.iterdir():
        link.unlink()
    assert (claim(two, tags), claim(one, tags)) == (second, first)


def test_a_used_directory_is_refused_instead(one: Path, tmp_path: Path) -> None:
    tags, two = tmp_path / "tags", namesake(one)
    claim(one, tags)
    (two / "isola.db").touch()
    with pytest.raises(Conflict) as caught:
        claim(two, tags)
    assert str(one) in caught.value.message and caught.value.remedy
    one.rmdir()
    assert claim(two, tags) == HostNames.of_directory(str(two))


def test_claims_of_deleted_directories_are_dropped(one: Path, tmp_path: Path) -> None:
    tags, two = tmp_path / "tags", namesake(one)
    claim(one, tags)
    one.rmdir()
    other = tmp_path / "other"
    other.mkdir()
    claim(other, tags)
    assert [os.readlink(link) for link in tags.iterdir()] == [str(other)]
    assert claim(two, tags) == HostNames.of_directory(str(two))


def test_without_claims_the_daemon_uses_its_tag_unclaimed(one: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert claim(one, tmp_path / "file" / "tags") == HostNames.of_directory(str(one))
