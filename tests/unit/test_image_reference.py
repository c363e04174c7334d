"""Names of images in registries, against what Docker accepts and prints."""

from __future__ import annotations

import pytest

from isola.errors import InvalidInput
from isola.model.image_reference import ImageReference, as_alias, check_domain, check_tag, is_id, parse, parse_full

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("nginx", "docker.io/library/nginx", "nginx"),
        ("nginx:1.27", "docker.io/library/nginx:1.27", "nginx:1.27"),
        ("docker.io/nginx", "docker.io/library/nginx", "nginx"),
        ("index.docker.io/library/nginx", "docker.io/library/nginx", "nginx"),
        ("team/app:2", "docker.io/team/app:2", "team/app:2"),
        ("library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/app", "localhost:5000/app", "localhost:5000/app"),
        ("registry.example:5000/team/app:2", "registry.example:5000/team/app:2", "registry.example:5000/team/app:2"),
        ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
        ("Host/app", "Host/app", "Host/app"),
        (f"app@{DIGEST}", f"docker.io/library/app@{DIGEST}", f"app@{DIGEST}"),
        (f"app:1@{DIGEST}", f"docker.io/library/app:1@{DIGEST}", f"app:1@{DIGEST}"),
        ("x/a__b--c.d/e_f", "docker.io/x/a__b--c.d/e_f", "x/a__b--c.d/e_f"),
    ],
)
def test_names_are_completed_and_shortened(text: str, full: str, familiar: str) -> None:
    found = parse(text)
    assert (found.full, found.familiar) == (full, familiar)
    assert parse(found.full) == parse(found.familiar) == parse_full(found.full) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "repository name must have at least one component"),
        ("App", "invalid reference format: repository name (library/App) must be lowercase"),
        ("x/App:1", "invalid reference format: repository name (x/App) must be lowercase"),
        (HEX, f"invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"),
        ("a" * 256, "repository name must not be more than 255 characters"),
        ("a:" + "t" * 129, "invalid reference format"),
        ("a:", "invalid reference format"),
        ("a@", "invalid reference format"),
        ("a:b:c", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a..b", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a/", "invalid reference format"),
        ("/a", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("a\n", "invalid reference format"),
        ("é", "invalid reference format"),
        ("https://registry.example/a", "invalid reference format"),
        ("user@registry.example/a", "invalid reference format"),
        ("a@sha256:12", "invalid reference format"),
        ("a@sha256:" + "0" * 63, "invalid checksum digest length"),
        ("a@sha256:" + "A" * 64, "invalid checksum digest format"),
        ("a@md5:" + "0" * 32, "unsupported digest algorithm"),
        ("x" * 3000, "invalid reference format"),
    ],
)
def test_refusals_have_the_texts_of_docker(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse(text)
    assert str(raised.value) == message


def test_a_path_of_255_characters_is_possible_beside_its_domain() -> None:
    assert len(parse("registry.example/" + "a" * 255).path) == 255


def test_short_names_belong_to_the_default_registry() -> None:
    assert parse("app", "registry.example").full == "registry.example/app"
    assert parse("docker.io/app", "registry.example").full == "docker.io/library/app"


def test_a_tag_is_added_where_nothing_is_named() -> None:
    assert parse("app").tagged().full == "docker.io/library/app:latest"
    assert parse("app:1").tagged().tag == "1"
    assert parse(f"app@{DIGEST}").tagged().tag == ""
    with pytest.raises(InvalidInput, match="invalid tag format"):
        check_tag(".a")


def test_repositories_of_this_server_have_no_domain() -> None:
    assert parse_full("team/app:2") == ImageReference("", "team/app", "2")
    assert parse_full("debian/12") == ImageReference("", "debian/12")
    assert parse_full("Debian") is None
    assert parse_full("a b") is None


def test_domains_and_ids() -> None:
    assert check_domain("registry.example:5000") == "registry.example:5000"
    with pytest.raises(ValueError, match="registry"):
        check_domain("https://registry.example")
    assert is_id(HEX)
    assert is_id(DIGEST)
    assert not is_id(HEX[:12])


@pytest.mark.parametrize(
    ("text", "alias"),
    [
        ("debian:12", "debian/12"),
        ("debian", ""),
        ("team/debian:12", ""),
        ("registry.example:5000/debian:12", ""),
        ("localhost:5000", "localhost/5000"),
        ("debian:12@sha256:" + "a" * 64, ""),
        ("Debian:12", ""),
        ("debian:", ""),
        ("debian:1/2", ""),
    ],
)
def test_short_names_as_aliases(text: str, alias: str) -> None:
    assert as_alias(text) == alias
