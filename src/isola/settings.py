"""Tables of typed keys: one row gives validation, default, help and the reference page.

A key may end in ``.*`` and then covers every key below it (``user.*``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from isola.errors import InvalidInput

Parser = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Setting:
    """One configuration key. ``parse`` raises ValueError with a message such as "true or false is expected"."""

    key: str
    parse: Parser
    help: str
    default: str | None = None
    live: bool = False
    """Whether a change takes effect on a running instance."""
    read_only: bool = False
    """Managed by the daemon (``volatile.*``, ``image.*``): shown, accepted unchanged, never validated."""
    expects: str = ""
    """Description of valid values, such as ``a CPU set such as 0-3``. Empty: taken from the error of ``parse``."""
    names: Callable[[str], object] = str
    """Of a key that ends in ``.*``: checks what stands for the star; raises ValueError."""

    @property
    def expected(self) -> str:
        """Description of valid values, for pages, messages and completion."""
        if self.read_only:
            return "read-only"
        if self.expects:
            return self.expects
        try:
            self.parse("\0")  # invalid for every key
        except ValueError as error:
            return (
                str(error)
                .removeprefix("expected ")
                .removesuffix(" is expected")
                .removesuffix(" are expected")
                .removesuffix(",")
            )
        return "anything"

    def covers(self, key: str) -> bool:
        """Whether this row applies to ``key``."""
        return key == self.key or (self.key.endswith(".*") and key.startswith(self.key[:-1]))


class Settings:
    """A table of settings of one noun."""

    def __init__(self, noun: str, *rows: Setting) -> None:
        self.noun = noun
        self._rows = rows
        self._exact = {row.key: row for row in rows if not row.key.endswith(".*")}
        self._prefixed = [row for row in rows if row.key.endswith(".*")]

    def __iter__(self) -> Iterator[Setting]:
        return iter(self._rows)

    def find(self, key: str) -> Setting | None:
        """The row that covers ``key``, or None."""
        return self._exact.get(key) or next((row for row in self._prefixed if row.covers(key)), None)

    def validate(self, config: Mapping[str, str], *, where: str = "config") -> None:
        """Raise InvalidInput that names the first key that is unknown or has an invalid value."""
        for key, value in config.items():
            row = self.find(key)
            if row is None:
                raise InvalidInput(
                    f"Unknown {self.noun} key {key!r}", field=f"{where}.{key}", remedy=self._suggest(key)
                )
            if not isinstance(value, str):
                raise InvalidInput(f"Key {key!r} must be a string", field=f"{where}.{key}")
            if value and not row.read_only:
                self._parse(row, key, value, where)
                self._check_name(row, key, where)

    def value(self, config: Mapping[str, str], key: str) -> object:
        """The parsed value of ``key``, or of its default; None if neither is set."""
        row = self._exact[key]
        text = config.get(key) or row.default
        return None if text is None else self._parse(row, key, text, "config")

    def values(self, config: Mapping[str, str], key: str) -> dict[str, object]:
        """The parsed values of all keys that the row ``key``, such as ``limits.kernel.*``, covers, by what follows."""
        row, prefix = next(row for row in self._prefixed if row.key == key), key[:-1]
        found = {name.removeprefix(prefix): value for name, value in config.items() if value and row.covers(name)}
        return {name: self._parse(row, f"{prefix}{name}", value, "config") for name, value in found.items()}

    def _check_name(self, row: Setting, key: str, where: str) -> None:
        if row.key.endswith(".*"):
            try:
                row.names(key.removeprefix(row.key[:-1]))
            except ValueError as error:
                raise InvalidInput(
                    f"Unknown {self.noun} key {key[:200]!r}", field=f"{where}.{key}", remedy=str(error)
                ) from error

    def _parse(self, row: Setting, key: str, value: str, where: str) -> object:
        try:
            return row.parse(value)
        except ValueError as error:
            raise InvalidInput(
                f"Invalid value {value[:200]!r} for {key!r}",
                field=f"{where}.{key}",
                remedy=f"{row.expects} is expected" if row.expects else str(error),
            ) from error

    def _suggest(self, key: str) -> str:
        import difflib

        near = difflib.get_close_matches(key, self._exact, n=1)
        return f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(row.key for row in self._rows)}"


def text(value: str) -> str:
    """Any string without NUL."""
    if "\0" in value:
        raise ValueError("a string without NUL is expected")
    return value


def boolean(value: str) -> bool:
    """Accepts the values of the LXD API: true/false, 1/0, yes/no, on/off."""
    lowered = value.lower()
    if lowered in ("true", "1", "yes", "on"):
        return True
    if lowered in ("false", "0", "no", "off"):
        return False
    raise ValueError("true or false is expected")


def whole(minimum: int = 0, maximum: int | None = None) -> Callable[[str], int]:
    """A parser of integers within inclusive bounds."""

    def parse(value: str) -> int:
        ends = f"from {minimum} to {maximum}" if maximum is not None else f"of at least {minimum}"
        if not value.lstrip("-").isascii() or not value.lstrip("-").isdigit() or len(value) > 20:
            raise ValueError(f"a whole number {ends} is expected")
        number = int(value)
        if number < minimum or (maximum is not None and number > maximum):
            raise ValueError(f"a whole number {ends} is expected")
        return number

    return parse


def one_of(*choices: str) -> Callable[[str], str]:
    """A parser that accepts only these strings."""

    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)} is expected")
        return value

    return parse
