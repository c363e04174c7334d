"""YAML: a small writer, and PyYAML for reading, which is imported only for edited documents."""

from __future__ import annotations

from isola.client.json import encode

_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./ -+()@%")
_RESERVED = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n", "~", "none"))


def dump(value: object) -> str:
    """The value as a YAML document."""
    if isinstance(value, dict | list) and value:
        return "\n".join(_block(value)) + "\n"
    return _scalar(value) + "\n"


def load(text: str) -> object:
    """The value of a YAML document. Raises InvalidInput with the position of the error."""
    from isola.errors import InvalidInput

    try:
        import yaml

        return yaml.safe_load(text)
    except ImportError as error:
        raise InvalidInput("PyYAML is not installed", remedy="install python3-yaml") from error
    except yaml.YAMLError as error:
        raise InvalidInput("The document is not valid YAML", evidence=str(error)) from error


def _block(value: object) -> list[str]:
    lines = []
    if isinstance(value, dict):
        for key, item in value.items():
            lines += _entry(f"{_scalar(str(key))}:", item)
    elif isinstance(value, list):
        for item in value:
            nested = _block(item) if isinstance(item, dict | list) and item else [_scalar(item)]
            lines += [f"- {nested[0]}", *(f"  {line}" for line in nested[1:])]
    return lines


def _entry(head: str, item: object) -> list[str]:
    if isinstance(item, dict) and item:
        return [head, *(f"  {line}" for line in _block(item))]
    if isinstance(item, list) and item:
        return [head, *_block(item)]
    if isinstance(item, str) and "\n" in item and _fits_literal(item):
        chomp = "" if item.endswith("\n") else "-"
        return [f"{head} |{chomp}", *(f"  {line}" if line else "" for line in item.removesuffix("\n").split("\n"))]
    return [f"{head} {_scalar(item)}"]


def _fits_literal(text: str) -> bool:
    """Whether the text survives a literal block unchanged."""
    plain = all(line.isprintable() for line in text.split("\n"))
    return plain and not text.startswith((" ", "\n")) and not text.endswith("\n\n")


def _scalar(value: object) -> str:
    if isinstance(value, str):
        return value if _plain(value) else '"' + "".join(map(_escaped, value)) + '"'
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, list):
        return "[]"
    text = encode(value)
    return text.replace("e", ".0e") if isinstance(value, float) and "." not in text else text  # YAML requires the dot


def _plain(text: str) -> bool:
    """Whether a string needs no quotes."""
    if not text or not text.isascii() or not _SAFE.issuperset(text) or text != text.strip() or text[0] in "-%@":
        return False
    return text.lower() not in _RESERVED and not _numeric(text)


def _numeric(text: str) -> bool:
    """Whether any YAML parser might read it as a number or a date."""
    if text[0] in ".+":
        return True
    return text[0] in "0123456789" and not any(c.isalpha() and c not in "abcdefABCDEFxXoO" for c in text)


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    return {"\n": "\\n", "\t": "\\t"}.get(character) or f"\\U{ord(character):08X}"
