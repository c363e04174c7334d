"""Addresses of Git repositories, and how Git is run for them."""

from __future__ import annotations

import pytest

from isola.builds import git
from isola.errors import CommandFailed, HostFailure, InvalidInput, NotFound, StorageFull, TooLarge
from isola.model.git_address import GitAddress, parse_git

URL = "https://example.org/a.git"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (URL, GitAddress(URL)),
        (f"{URL}#", GitAddress(URL)),
        (f"{URL}#main", GitAddress(URL, "main")),
        (f"{URL}#refs/pull/1/head:a//b/./c/", GitAddress(URL, "refs/pull/1/head", "a/b/c")),
        (f"{URL}#:a", GitAddress(URL, "HEAD", "a")),
        ("HTTP://example.org/a.git", GitAddress("HTTP://example.org/a.git")),
        ("https://example.org/a", None),
        ("https://example.org/a.git?x=1", None),
        ("https://example.org/a.gitx", None),
        ("a.git", None),
        ("github.com/a/b", None),
        ("directory/https://example.org/x.git", None),
    ],
)
def test_addresses(text: str, want: GitAddress | None) -> None:
    assert parse_git(text) == want


def test_the_short_form_is_for_contexts() -> None:
    assert parse_git("github.com/a/b.git#c", context=True) == GitAddress("https://github.com/a/b.git", "c")
    assert parse_git("github.community/a/b", context=True) is None


@pytest.mark.parametrize(
    "text",
    [
        "git@example.org:a", "ssh://example.org/a.git", "git://example.org/a.git", "git+https://example.org/a",
        f"{URL}#--upload-pack=x", f"{URL}#-x", f"{URL}#a..b", f"{URL}#a b", f"{URL}#a\nb", f"{URL}#+a",
        f"{URL}#a@{{1}}",
        f"{URL}#a^b", f"{URL}#a.lock", f"{URL}#x:..", f"{URL}#x:a/../b", f"{URL}#x:a\0b", f"{URL}#{'x' * 5000}",
        "https://u@example.org/a.git", "https://exa mple.org/a.git", "https://example.org/\n.git",
        "https://ex\u00e4.org/a.git",
    ],
)  # fmt: skip
def test_hostile_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="Git"):
        parse_git(text)


def test_git_has_no_settings_but_these() -> None:
    found = git.environment({"PATH": "/bin"}, ("192.0.2.1", "2001:db8::1"), "basic c2VjcmV0", f"{URL}")
    settings = {
        found[f"GIT_CONFIG_KEY_{number}"]: found[f"GIT_CONFIG_VALUE_{number}"]
        for number in range(int(found["GIT_CONFIG_COUNT"]))
    }
    assert settings["http.curloptResolve"] == "example.org:443:192.0.2.1,[2001:db8::1]"
    assert settings[f"http.{URL}.extraHeader"] == "Authorization: basic c2VjcmV0"
    assert settings["http.followRedirects"] == "false" and settings["core.hooksPath"] == "/dev/null"
    assert found["GIT_ALLOW_PROTOCOL"] == "http:https" and found["GIT_TERMINAL_PROMPT"] == "0"
    plain = git.environment({}, (), "", URL)
    assert not {"http.curloptResolve", f"http.{URL}.extraHeader"} & set(plain.values())
    owners = {git.user("00"), git.user("ffffffffffff")}
    assert all(1 << 31 < owner < 1 << 32 for owner in owners)


def test_tokens_are_for_their_hosts() -> None:
    assert git.authorization({"GIT_AUTH_TOKEN": b"x\n"}, URL) == "basic eC1hY2Nlc3MtdG9rZW46eA=="
    assert git.authorization({"GIT_AUTH_HEADER.example.org": b"bearer y", "GIT_AUTH_TOKEN": b"x"}, URL) == "bearer y"
    assert git.authorization({"GIT_AUTH_TOKEN.other.org": b"x"}, URL) == ""
    for hostile in (b"a\nHost: b", b"\xff", b"x" * 9000):
        with pytest.raises(InvalidInput):
            git.authorization({"GIT_AUTH_HEADER": hostile}, URL)


@pytest.mark.parametrize(
    ("status", "said", "error", "message"),
    [
        (128, "fatal: couldn't find remote ref x", NotFound, "no branch, tag or commit x"),
        (128, "fatal: upload-pack: not our ref 0", NotFound, "no branch, tag or commit x"),
        (128, "fatal: write error: No space left on device", StorageFull, "The disk is full"),
        (128, "fatal: write error: File too large", TooLarge, "too large"),
        (153, "", TooLarge, "too large"),
        (127, "setpriv: failed to execute git", HostFailure, "not installed"),
        (128, "fatal: unable to access", HostFailure, "cannot be fetched"),
    ],
)
def test_what_git_says(status: int, said: str, error: type[Exception], message: str) -> None:
    found = git.explained(CommandFailed(["setpriv"], status, said), GitAddress(URL, "x"))
    assert type(found) is error and message in found.message
