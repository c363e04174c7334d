"""metadata.yaml: what is accepted, what is refused, and that reading undoes writing."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isola.errors import InvalidInput
from isola.host import documents
from isola.images.metadata import Metadata, read, render


def parse(data: bytes) -> Metadata:
    return read(documents.parse(data))


GOOD = b"architecture: x86_64\ncreation_date: 1700000000\n"


def test_a_usual_file() -> None:
    metadata = parse(
        b"""
architecture: amd64
creation_date: 1700000000
expiry_date: 1800000000
properties:
  os: Debian
  serial: 20240101
  release: 12
  when: 2024-01-01
templates:
  /etc/hostname:
    when: [create, copy]
    template: hostname.tpl
    properties: {}
"""
    )
    assert metadata.architecture == "x86_64"
    assert metadata.created_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert metadata.expires_at == datetime(2027, 1, 15, 8, 0, tzinfo=UTC)
    assert metadata.properties == {"os": "Debian", "serial": "20240101", "release": "12", "when": "2024-01-01"}
    assert metadata.templates["/etc/hostname"]["template"] == "hostname.tpl"


def test_json_is_yaml() -> None:
    assert parse(b'{"architecture": "aarch64", "creation_date": 1}').architecture == "aarch64"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (b"", None),
        (b"- a\n- b\n", None),
        (b"creation_date: 1\n", "architecture"),
        (b"architecture: x86_64\n", "creation_date"),
        (b"architecture: [x86_64]\ncreation_date: 1\n", "architecture"),
        (b"architecture: vax\ncreation_date: 1\n", "architecture"),
        (b"architecture: x86_64\ncreation_date: soon\n", "creation_date"),
        (b"architecture: x86_64\ncreation_date: -5\n", "creation_date"),
        (b"architecture: x86_64\ncreation_date: 999999999999999999999\n", "creation_date"),
        (b"architecture: x86_64\ncreation_date: {a: b}\n", "creation_date"),
        (GOOD + b"expiry_date: never\n", "expiry_date"),
        (GOOD + b"properties: [1, 2]\n", "properties"),
        (GOOD + b"properties: {os: [a]}\n", "properties.os"),
        (GOOD + b"properties: {[a]: b}\n", None),
        (GOOD + b'properties: {os: "a\\0b"}\n', "properties.os"),
        (GOOD + b"templates: x\n", "templates"),
        (GOOD + b"templates: {/etc/x: y}\n", "templates./etc/x"),
        (GOOD + b"templates: {/etc/x: {template: ../../etc/shadow}}\n", "templates./etc/x.template"),
    ],
)
def test_wrong_content_names_its_field(text: bytes, field: str | None) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "text",
    [
        b"a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n" + GOOD,  # the billion laughs, begun
        b"x: " + b"[" * 2000 + b"]" * 2000,
        b"\n".join(b"k%d: v" % n for n in range(30_000)),
        b"a: !!python/object/apply:os.system [id]\n\x00",
        b"a: {unclosed\n",
        b"\xff\xfe\x00nonsense",
        b"a: b\n--- \nc: d\n",
    ],
    ids=["aliases", "deep", "many", "binary", "syntax", "encoding", "two documents"],
)
def test_yaml_bombs_and_invalid_documents_are_refused(text: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse(text)


def test_yaml_tags_create_strings_only() -> None:
    metadata = parse(GOOD + b"properties: {a: !!python/name:os.system x}\n")
    assert metadata.properties == {"a": "x"}


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(st.dictionaries(texts, st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=8))
def test_written_metadata_is_read_back(properties: dict[str, str]) -> None:
    metadata = Metadata("x86_64", datetime(2024, 2, 3, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC), properties)
    assert parse(render(metadata)) == metadata
    assert render(metadata) == render(metadata)


def test_templates_are_written_too() -> None:
    templates = {
        "/etc/hostname": {"when": ["create"], "template": "hostname.tpl", "properties": {}, "create_only": "true"}
    }
    metadata = Metadata("aarch64", datetime(2024, 2, 3, tzinfo=UTC), templates=templates)
    assert parse(render(metadata)) == metadata
