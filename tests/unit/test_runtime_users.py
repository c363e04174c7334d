"""Users from an image's own files, which are untrusted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isola.errors import InvalidInput
from isola.runtimes.users import User, choose

PASSWD = "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\nbroken\n1000:x:5:6::/five:/\nbad:x:huge:1::/:/\n"
GROUP = "root:x:0:\nweb:x:34:\nextra:x:50:web,other\nhuge:x:99999999999:web\nfar:x:70000:web\n"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("web", User(33, 34, (50,), "/srv")),
        ("33", User(33, 34, (50,), "/srv")),
        ("web:root", User(33, 0, (), "/srv")),
        ("web:7", User(33, 7, (), "/srv")),
        ("1234", User(1234, 0, (), "/")),
        ("1234:5678", User(1234, 5678, (), "/")),
        ("1000", User(5, 6, (), "/five")),
        ("0:0", User(0, 0, (), "/root")),
    ],
)
def test_names_and_numbers(user: str, expected: User) -> None:
    assert choose(user, PASSWD, GROUP, 65536) == expected


@pytest.mark.parametrize("user", ["nobody", "bad", "65536", "0:65536", "web:none", "-1", "999999999999", "٣"])
def test_invalid_users_are_refused(user: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        choose(user, PASSWD, GROUP, 65536)
    assert caught.value.field in ("user", "group")


@given(st.text(max_size=40), st.text(max_size=200), st.text(max_size=200))
def test_any_file_can_be_parsed(user: str, passwd: str, group: str) -> None:
    try:
        found = choose(user, passwd, group, 65536)
    except InvalidInput:
        return
    assert 0 <= found.uid < 65536 and 0 <= found.gid < 65536
    assert all(0 <= number < 65536 for number in found.groups)
