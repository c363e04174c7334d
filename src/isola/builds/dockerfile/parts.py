"""An instruction split into its name, its flags and the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from isola.builds.dockerfile.flags import Flags
from isola.builds.dockerfile.lines import Line
from isola.builds.dockerfile.words import flags_and_rest, json_words, words


class Place(TypedDict):
    """Where an instruction is, as its constructors take it."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Parts:
    """What the readers of instructions are given."""

    line: Line
    name: str
    """In capitals."""
    flags: tuple[str, ...]
    rest: str
    escape: str

    @classmethod
    def of(cls, line: Line, name: str, rest: str, escape: str) -> Parts:
        flags, rest = flags_and_rest(rest, escape)
        return cls(line, name, flags, rest.strip(), escape)

    @property
    def place(self) -> Place:
        """For the constructor of the instruction."""
        return {"number": self.line.number, "text": self.line.text}

    def plain(self) -> Parts:
        """Itself; raises ValueError if there are flags, for an instruction that has none."""
        Flags(self.flags)
        return self

    def command(self) -> tuple[tuple[str, ...], bool]:
        """The arguments, and whether they are one text for the shell."""
        argv = json_words(self.rest)
        if argv is not None:
            return argv, False
        return (self.rest,) if self.rest else (), True

    def listed(self) -> tuple[str, ...]:
        """The elements of a JSON array, or the words."""
        found = json_words(self.rest)
        return tuple(words(self.rest)) if found is None else found
