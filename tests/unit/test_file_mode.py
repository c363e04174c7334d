"""Permissions as ``chmod`` takes them."""

from __future__ import annotations

import pytest

from isola.model.file_mode import FileMode


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("755", 0o600, 0o755),
        ("0755", 0o600, 0o755),
        ("04711", 0o600, 0o4711),
        ("u+x", 0o644, 0o744),
        ("+x", 0o644, 0o755),
        ("a-w", 0o666, 0o444),
        ("u+x,go-r", 0o644, 0o700),
        ("go=", 0o777, 0o700),
        ("o=u", 0o640, 0o646),
        ("g=o-x", 0o705, 0o745),
        ("a=rX", 0o644, 0o444),
        ("a=rX", 0o744, 0o555),
        ("u+s,g+s", 0o755, 0o6755),
        ("u=rwx", 0o4755, 0o755),
        ("+t", 0o777, 0o1777),
        ("ug+rw,o+r-x", 0o001, 0o664),
    ],
)
def test_modes_of_files(text: str, before: int, after: int) -> None:
    assert FileMode.parse(text).applied(before, directory=False) == after


def test_directories_are_entered_and_keep_their_special_bits() -> None:
    assert FileMode.parse("a=rX").applied(0o700, directory=True) == 0o555
    assert FileMode.parse("g=rx").applied(0o2775, directory=True) == 0o2755


@pytest.mark.parametrize("text", ["8", "77777", "u", "u+q", "x", "u+x,", "+x" * 200, "u+ug", "٧٥٥", "", "a=r\n"])
def test_what_is_no_mode(text: str) -> None:
    with pytest.raises(ValueError, match="invalid chmod parameter"):
        FileMode.parse(text)
