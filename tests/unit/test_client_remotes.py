"""The user's remotes: configuration files, and connections over TLS."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from isola.client.certificates import read_token, token_text
from isola.client.remotes import LOCAL, Remotes, address, split
from isola.client.websocket import _challenge, masked
from isola.errors import AlreadyExists, HostFailure, InvalidInput, NotFound


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("192.0.2.1", "https://192.0.2.1:8443"),
        ("host.example:9000", "https://host.example:9000"),
        ("2001:db8::1", "https://[2001:db8::1]:8443"),
        ("[2001:db8::1]:9", "https://[2001:db8::1]:9"),
        ("https://host/", "https://host:8443"),
    ],
)
def test_addresses_as_users_type_them(typed: str, url: str) -> None:
    assert address(typed) == url
    assert address(url) == url


@pytest.mark.parametrize(
    "text", ["", "http://host", "https://", "https://u@host", "https://host/1.0", "host:x", "h:99999"]
)
def test_invalid_addresses_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        address(text)


def test_only_the_user_may_read_the_remotes(tmp_path: Path) -> None:
    place = str(tmp_path / "conf")
    first = Remotes(place)
    assert first.names() == [LOCAL] and not os.path.exists(place)
    first.add("far", "https://192.0.2.1:8443", "ab" * 32)
    first.switch("far")
    files = first.ensure_identity()
    again = Remotes(place)
    assert again.names() == [LOCAL, "far"] and again.default == "far"
    found = again.get("far")
    assert (found.host, found.port, found.fingerprint, found.identity) == ("192.0.2.1", 8443, "ab" * 32, files)
    assert again.ensure_identity() == files
    assert stat.S_IMODE(os.stat(place).st_mode) == 0o700
    for file in os.listdir(place):
        assert stat.S_IMODE(os.stat(os.path.join(place, file)).st_mode) == 0o600
    assert sorted(os.listdir(place)) == ["client.crt", "client.key", "remotes.json"], "nothing half written stays"


def test_remotes_are_renamed_changed_and_removed(tmp_path: Path) -> None:
    remotes = Remotes(str(tmp_path))
    remotes.add("a", "https://192.0.2.1:8443", "aa")
    remotes.switch("a")
    remotes.rename("a", "b")
    remotes.change("b", url="https://192.0.2.2:8443", project="blue")
    assert remotes.default == "b"
    assert (remotes.get("b").host, remotes.get("b").project) == ("192.0.2.2", "blue")
    with pytest.raises(AlreadyExists):
        remotes.add("b", "https://192.0.2.3:8443", "cc")
    with pytest.raises(AlreadyExists):
        remotes.rename("b", LOCAL)
    remotes.remove("b")
    assert Remotes(str(tmp_path)).names() == [LOCAL] and Remotes(str(tmp_path)).default == LOCAL
    for verb in (remotes.remove, remotes.switch, remotes.get):
        with pytest.raises(NotFound):
            verb("b")
    for verb in (remotes.remove, remotes.get):
        with pytest.raises(InvalidInput, match="this machine"):
            verb(LOCAL)
    for wrong in ("", "a:b", "a/b", "x" * 64, "ä b"):
        with pytest.raises(InvalidInput):
            remotes.add(wrong, "https://192.0.2.3:8443", "cc")


@pytest.mark.parametrize("text", ["{", "[]", '{"remotes": 1}', '{"remotes": {"a": {}}}', '{"remotes": {"a": 1}}', "\0"])
def test_a_damaged_file_is_reported_and_left_unchanged(tmp_path: Path, text: str) -> None:
    file = tmp_path / "remotes.json"
    file.write_text(text)
    with pytest.raises(HostFailure, match="cannot be read"):
        Remotes(str(tmp_path))
    assert file.read_text() == text


def test_tokens_are_packed_and_read() -> None:
    metadata = {"request": {"name": "x"}, "fingerprint": "ff", "addresses": ["192.0.2.1:8443"], "secret": "s"}
    found = read_token(token_text(metadata))
    assert found is not None and (found["client_name"], found["addresses"]) == ("x", ["192.0.2.1:8443"])
    for text in ("", "192.0.2.1", "https://host:8443", "e30=", "W10=", "AAAA"):
        assert read_token(text) is None


def test_frames_over_the_network_have_random_masks() -> None:
    key = bytes((0x37, 0xFA, 0x21, 0x3D))
    assert masked(b"Hello", key) == bytes((0x7F, 0x9F, 0x4D, 0x51, 0x58)), "the example of RFC 6455, section 5.7"
    for size in (0, 1, 3, 4, 125, 126, 70_001):
        data = os.urandom(size)
        assert masked(masked(data, key), key) == data
        assert masked(data, key) == bytes(byte ^ key[at % 4] for at, byte in enumerate(data))
    assert _challenge()[0] != _challenge()[0]


def test_a_file_of_remotes_is_plain_json(tmp_path: Path) -> None:
    Remotes(str(tmp_path)).add("a", "https://192.0.2.1:8443", "aa")
    document = json.loads((tmp_path / "remotes.json").read_text())
    assert document["default"] == "local"
    assert document["remotes"] == {"a": {"url": "https://192.0.2.1:8443", "fingerprint": "aa"}}
    assert split("https://192.0.2.1") == ("192.0.2.1", 8443)
