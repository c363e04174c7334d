"""Words of an instruction: quoting, flags, the JSON form, names with values, beginnings of here-documents."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

_HEREDOC = re.compile(r"(\d*)<<(-?)([^<]*)")
_WHITESPACE = re.compile(r"[\t\v\f\r ]+")


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A here-document; ``content`` has every line ended by a newline, and tabs at their beginning as written."""

    name: str
    expand: bool
    """False where the name was quoted."""
    strip_tabs: bool
    """Begun by ``<<-``."""
    content: str = ""
    word: str = ""
    """How it was begun, such as ``<<-"EOF"``."""

    def with_content(self, content: str) -> Heredoc:
        return replace(self, content=content)

    @property
    def text(self) -> str:
        """Without leading tabs if it was begun by ``<<-``."""
        return re.sub(r"^\t+", "", self.content, flags=re.MULTILINE) if self.strip_tabs else self.content


def heredoc_of(word: str) -> Heredoc | None:
    """The here-document that the word begins."""
    match = _HEREDOC.fullmatch(word)
    if match is None or not match[3]:
        return None
    name = unquoted(match[3])
    return Heredoc(name, match[3] == name, bool(match[2]), word=word) if name and not re.search(r"\s", name) else None


def heredocs_of(text: str, escape: str) -> list[Heredoc]:
    """Here-documents that begin on the line. Raises ValueError if quotes do not match."""
    return [heredoc for word in shell_words(text, escape) if (heredoc := heredoc_of(word))]


def unquoted(text: str) -> str:
    """The text without one pair of quotes around it, or one backslash before it."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text.removeprefix("\\")


def shell_words(text: str, escape: str) -> list[str]:
    """The words with their quotes and escapes kept. Raises ValueError if quotes do not match."""
    found: list[str] = []
    word, quote, at = "", "", 0
    while at < len(text):
        char = text[at]
        at += 1
        if char.isspace() and not quote:
            if word:
                found.append(word)
            word = ""
            continue
        if char == escape and quote != "'" and at < len(text):
            char += text[at]
            at += 1
        elif char in "'\"" and quote in ("", char):
            quote = "" if quote else char
        word += char
    if quote:
        raise ValueError(f"no closing quote in {text[:80]!r}")
    return [*found, word] if word else found


def words(text: str) -> list[str]:
    """Apart at white space, without regard to quotes."""
    return [word for word in _WHITESPACE.split(text.strip()) if word]


def first_word(text: str) -> tuple[str, str]:
    """The first word, and what follows the white space after it."""
    first, *rest = re.split(r"\s+", text.strip(), maxsplit=1)
    return first, rest[0] if rest else ""


def is_json(text: str) -> bool:
    """Whether it is an array in JSON; of texts or not."""
    try:
        return text.lstrip().startswith("[") and isinstance(json.loads(text), list)
    except (ValueError, RecursionError):
        return False


def json_words(text: str) -> tuple[str, ...] | None:
    """The texts of an array in JSON; None for anything that is no array. Raises ValueError for other elements."""
    if not is_json(text):
        return None
    found = json.loads(text)
    if not all(isinstance(each, str) and "\0" not in each for each in found):
        raise ValueError("when using JSON array syntax, arrays must be comprised of strings only")
    return tuple(found)


def flags_and_rest(text: str, escape: str) -> tuple[tuple[str, ...], str]:
    """The words that begin with ``--`` before all others, without quotes and escapes; and the rest as written."""
    found: list[str] = []
    text = text.lstrip()
    while text.startswith("--"):
        flag, text = _flag(text, escape)
        if flag == "--":
            break
        found.append(flag)
    return tuple(found), text


def _flag(text: str, escape: str) -> tuple[str, str]:
    flag, quote, at = "", "", 0
    while at < len(text) and (quote or not text[at].isspace()):
        char = text[at]
        if char == escape and at + 1 < len(text) and text[at + 1] in f"'\"{escape} \t":
            at += 1
            flag += text[at]
        elif char in "'\"" and quote in ("", char):
            quote = "" if quote else char
        else:
            flag += char
        at += 1
    return flag, text[at:].lstrip()


def pairs(text: str, escape: str, instruction: str) -> Iterator[tuple[str, str]]:
    """Names and values, quotes kept: ``a=b "c d"=e``, or the old form with one name and the rest. Raises ValueError."""
    found = _quoted_words(text, escape)
    if not found:
        raise ValueError(f"{instruction} requires at least one argument")
    if "=" not in found[0]:
        name, value = first_word(text)
        if not value:
            raise ValueError(f"{instruction} must have two arguments")
        yield name, value
        return
    for word in found:
        name, separator, value = word.partition("=")
        if not separator:
            raise ValueError(f'Syntax error - can\'t find = in "{word[:80]}". Must be of the form: name=value')
        if not unquoted(name):
            raise ValueError(f"{instruction} names can not be blank")
        yield name, value


def names_and_values(text: str, escape: str) -> Iterator[tuple[str, str | None]]:
    """Names with or without a value, as ARG has them. Raises ValueError."""
    found = _quoted_words(text, escape)
    if not found:
        raise ValueError("ARG requires at least one argument")
    for word in found:
        name, separator, value = word.partition("=")
        if not name:
            raise ValueError("ARG names can not be blank")
        yield name, value if separator else None


def _quoted_words(text: str, escape: str) -> list[str]:
    """Words with quotes; an open quote lasts until the end of the line, as in Docker."""
    try:
        return shell_words(text, escape)
    except ValueError:
        for quote in "\"'":
            try:
                return shell_words(text + quote, escape)
            except ValueError:
                continue
        raise
