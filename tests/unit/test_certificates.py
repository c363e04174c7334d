"""Parts of trust management: periods, addresses, certificates, wrong tokens, limits on connections."""

from __future__ import annotations

import base64
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from https_peer import START, der_of, pair

from isola.access.certificates import may_see, refusal_of_change
from isola.certificates import Certificates, Identity, Tokens
from isola.certificates.attempts import Attempts
from isola.certificates.trust_password import TrustPassword
from isola.doors.http.ceilings import Ceilings, origin
from isola.errors import AlreadyExists, Forbidden, InvalidInput, NotFound, TooLarge
from isola.events import Events
from isola.model.caller import Caller, Credential
from isola.model.certificate import Certificate, TokenRequest
from isola.model.endpoint import Endpoint, endpoint
from isola.model.expiry import expiry
from isola.operations import Operations
from isola.passwords import hashed
from isola.state import Collection, record_codec
from isola.testing.clock import FakeClock
from isola.testing.parts import World
from isola.testing.store import FakeStore
from isola.x509 import make, parse

PROJECTS = {"default", "blue", "green"}
ROOT = Caller(Credential.UNIX, "root", "@")


async def store_of(clock: FakeClock) -> Certificates:
    records = Collection(FakeStore(clock), "certificate", "/certificates/", record_codec(Certificate))
    return Certificates(records, Events(clock.now), clock.now, PROJECTS.__contains__)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("1d", datetime(2026, 2, 1, 10, tzinfo=UTC)),
        ("1m", datetime(2026, 2, 28, 10, tzinfo=UTC)),
        ("2H 30M", datetime(2026, 1, 31, 12, 30, tzinfo=UTC)),
        ("1y 1S", datetime(2027, 1, 31, 10, 0, 1, tzinfo=UTC)),
        ("1w", datetime(2026, 2, 7, 10, tzinfo=UTC)),
    ],
)
def test_spans_of_time(text: str, end: datetime) -> None:
    assert expiry(text).after(datetime(2026, 1, 31, 10, tzinfo=UTC)) == end


@pytest.mark.parametrize("text", ["", " ", "1", "d", "-1d", "1d 2d", "1.5d", "1h", "9999999d", "١d"])
def test_invalid_spans_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        expiry(text)


def test_a_span_beyond_the_calendar_is_an_overflow() -> None:
    with pytest.raises(OverflowError):
        expiry("9000y").after(START)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (":8443", Endpoint("", 8443)),
        ("[::]", Endpoint("::", 8443)),
        ("::1", Endpoint("::1", 8443)),
        ("[fd00::1]:9", Endpoint("fd00::1", 9)),
        ("192.0.2.1", Endpoint("192.0.2.1", 8443)),
        ("0.0.0.0:1", Endpoint("0.0.0.0", 1)),
    ],
)
def test_endpoints(text: str, found: Endpoint) -> None:
    assert endpoint(text, 8443) == found == endpoint(str(found), 1)


@pytest.mark.parametrize(
    "text", ["", ":", "[::1", "[]:1", "host:1", ":0", ":65536", "1.2.3.4:", "[::1]8443", "1.2.3:4", ":٣"]
)
def test_invalid_endpoints_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|port"):
        endpoint(text, 8443)


def test_a_certificate_is_read_in_each_of_its_forms() -> None:
    made = pair("ada")
    der = ssl.PEM_cert_to_DER_cert(made.certificate)
    forms = {parse(form).fingerprint for form in (made.certificate, der_of(made), der)}
    assert len(forms) == 1
    lines = "\n".join(made.certificate.strip().splitlines()[1:-1])
    assert parse(lines).fingerprint in forms, "as pylxd sends it"
    found = parse(der)
    assert found.common_name == "ada" and found.valid(START) and not found.valid(START + timedelta(days=4000))


@pytest.mark.parametrize("data", ["", "nonsense!", base64.b64encode(b"x" * 100).decode(), b"\x30\x82", "A" * 70_000])
def test_invalid_certificates_are_refused(data: str | bytes) -> None:
    with pytest.raises(InvalidInput):
        parse(data)


async def test_the_servers_key_is_made_once(tmp_path: object) -> None:
    world = World()
    first = Identity(world.host, world.directory)
    await world.host.files.make_directory(world.directory)
    made = await first.ensure()
    second = Identity(world.host, world.directory)
    assert await second.ensure() == made and second.fingerprint == first.fingerprint
    await world.host.files.write(world.directory / "server.crt", b"damaged")
    with pytest.raises(InvalidInput, match="cannot be read"):
        await Identity(world.host, world.directory).ensure()


async def test_a_clients_identity_and_permissions_follow_its_certificates_record() -> None:
    clock = FakeClock()
    certificates = await store_of(clock)
    added = await certificates.add(Certificate("", pair("ada").certificate, ""))
    assert added.name == "ada" and added.created_at == START
    caller = certificates.caller(added.fingerprint, "192.0.2.1:5")
    assert caller == Caller(Credential.CERTIFICATE, added.fingerprint, "192.0.2.1:5") and caller.admin
    await certificates.update(added.fingerprint, lambda it: replace(it, restricted=True, projects=("blue", "blue")))
    assert certificates.caller(added.fingerprint, "").projects == frozenset({"blue"})
    await certificates.update(added.fingerprint, lambda it: replace(it, type="metrics", restricted=False))
    assert not certificates.caller(added.fingerprint, "").trusted
    await certificates.update(added.fingerprint, lambda it: replace(it, type="client"))
    await clock.advance(4000 * 86400)
    assert not certificates.caller(added.fingerprint, "").trusted, "it has expired"
    assert not certificates.caller("", "").trusted and not certificates.caller("ab", "").trusted


async def test_certificates_are_found_by_an_unambiguous_prefix() -> None:
    certificates = await store_of(FakeClock())
    added = [await certificates.add(Certificate("", pair(f"c{n}").certificate, "")) for n in range(17)]
    assert certificates.find(added[0].fingerprint[:20].upper()) == added[0]
    with pytest.raises(NotFound):
        certificates.find("")
    with pytest.raises(NotFound):
        certificates.find("xyz")
    firsts = [each.fingerprint[0] for each in added]
    twice = next(first for first in firsts if firsts.count(first) > 1)
    with pytest.raises(InvalidInput, match="several"):
        certificates.find(twice)


async def test_errors_name_the_invalid_field_of_a_certificate() -> None:
    certificates = await store_of(FakeClock())
    old = pair("old", START - timedelta(days=5000))
    wrong = [
        (Certificate("", old.certificate, ""), "certificate"),
        (Certificate("", "x", ""), "certificate"),
        (Certificate("", pair().certificate, "a\nb"), "name"),
        (Certificate("", pair().certificate, "a", "server"), "type"),
        (Certificate("", pair().certificate, "a", projects=("a/b",)), "projects"),
        (Certificate("", pair().certificate, "a", projects=("",)), "projects"),
        (Certificate("", pair().certificate, "a", projects=("nowhere",)), "projects"),
    ]
    for certificate, field in wrong:
        with pytest.raises(InvalidInput) as caught:
            await certificates.add(certificate)
        assert caught.value.field == field
    shown = pair()
    await certificates.add(Certificate("", shown.certificate, ""))
    with pytest.raises(AlreadyExists):
        await certificates.add(Certificate("", shown.certificate, "again"))


async def test_connections_are_closed_when_trust_ends() -> None:
    certificates = await store_of(FakeClock())
    told: list[str] = []
    certificates.distrusted = told.append
    added = await certificates.add(Certificate("", pair().certificate, "x"))
    renewed = await certificates.update(added.fingerprint, lambda it: replace(it, certificate=pair().certificate))
    assert renewed.fingerprint != added.fingerprint and not certificates.caller(added.fingerprint, "").trusted
    await certificates.remove(renewed.fingerprint)
    assert told == [added.fingerprint, renewed.fingerprint] and list(certificates) == []


def test_restricted_clients_may_only_renew_their_own_certificate() -> None:
    own = Certificate("aa", "pem", "me", restricted=True, projects=("blue",))
    me = Caller(Credential.CERTIFICATE, "aa", projects=frozenset({"blue"}))
    other = replace(me, name="bb")
    assert may_see(me, own) and not may_see(other, own) and may_see(ROOT, own)
    assert refusal_of_change(me, own, replace(own, certificate="new")) == ""
    for raised in (
        replace(own, restricted=False),
        replace(own, projects=("blue", "default")),
        replace(own, type="metrics"),
        replace(own, name="you"),
    ):
        assert refusal_of_change(me, own, raised)
        assert refusal_of_change(ROOT, own, raised) == ""
    assert refusal_of_change(other, own, own)


def tokens_of(clock: FakeClock) -> Tokens:
    operations = Operations(Events(clock.now), now=clock.now, new_id=clock.uuid)
    return Tokens(operations, clock)


def give(tokens: Tokens, expires_at: datetime | None = None) -> tuple[str, object]:
    request = TokenRequest("ada", restricted=True, projects=("blue",))
    operation = tokens.give(request, fingerprint="ff", addresses=["192.0.2.1:8443"], expires_at=expires_at)
    return str(operation.metadata["secret"]), operation


async def test_a_token_is_valid_once() -> None:
    tokens = tokens_of(FakeClock())
    secret, operation = give(tokens)
    assert tokens.take(secret, "a").projects == ("blue",)
    for again in (secret, "", "0" * 64):
        with pytest.raises(Forbidden, match="wrong"):
            tokens.take(again, "a")
    await operation.wait()  # type: ignore[attr-defined]
    assert operation.status.value == "Success"  # type: ignore[attr-defined]


async def test_revoked_and_expired_tokens_are_refused() -> None:
    clock = FakeClock()
    tokens = tokens_of(clock)
    revoked, operation = give(tokens)
    await clock.advance(0)
    operation.cancel()  # type: ignore[attr-defined]
    await operation.wait()  # type: ignore[attr-defined]
    old, ended = give(tokens, START + timedelta(seconds=90))
    await clock.advance(60)
    assert not ended.status.final  # type: ignore[attr-defined]
    await clock.advance(60)
    await ended.wait()  # type: ignore[attr-defined]
    for secret in (revoked, old):
        with pytest.raises(Forbidden):
            tokens.take(secret, "a")


async def test_the_number_of_tokens_is_limited() -> None:
    tokens = tokens_of(FakeClock())
    with pytest.raises(TooLarge):
        for _ in range(1000):
            give(tokens)


async def test_wrong_tokens_delay_only_their_address() -> None:
    clock = FakeClock()
    tokens = tokens_of(clock)
    secret, _ = give(tokens)
    for _ in range(5):
        with pytest.raises(Forbidden, match="wrong"):
            tokens.take("guess", "192.0.2.9")
    with pytest.raises(Forbidden, match="Too many"):
        tokens.take(secret, "192.0.2.9")
    await clock.advance(12)
    with pytest.raises(Forbidden, match="wrong"):
        tokens.take("guess", "192.0.2.9")
    assert tokens.take(secret, "192.0.2.10").name == "ada"


async def test_the_time_to_wait_is_rounded_up() -> None:
    clock = FakeClock()
    tokens = tokens_of(clock)
    for _ in range(5):
        tokens.attempts.failed("192.0.2.9", clock.monotonic())
    for passed, left in ((0, "12 seconds"), (1.5, "11 seconds"), (10.4, "1 second"), (0.09, "1 second")):
        await clock.advance(passed)
        with pytest.raises(Forbidden) as caught:
            tokens.take("guess", "192.0.2.9")
        assert caught.value.remedy == f"try again in {left}"


async def test_a_right_token_or_password_clears_the_wrong_ones_of_its_address() -> None:
    clock = FakeClock()
    tokens = tokens_of(clock)
    stored = hashed("correct horse", "00")
    password = TrustPassword(lambda: stored, tokens.attempts, clock)
    for _ in range(2):
        for _ in range(4):
            with pytest.raises(Forbidden, match="wrong"):
                tokens.take("guess", "192.0.2.9")
        await password.check("correct horse", "192.0.2.9")
        for _ in range(4):
            with pytest.raises(Forbidden, match="wrong"):
                await password.check("wrong horse", "192.0.2.9")
        assert tokens.take(give(tokens)[0], "192.0.2.9").name == "ada"


def test_wrong_tokens_of_many_addresses_are_bounded_together_and_forgotten() -> None:
    attempts = Attempts()
    for number in range(3000):
        attempts.failed(f"10.0.{number // 256}.{number % 256}", 0.0)
    assert attempts.wait("192.0.2.1", 0.0) > 0
    assert attempts.wait("192.0.2.1", 3000 * 0.5) == 0
    assert len(attempts._addresses) <= 1024


def test_connections_are_counted_by_address_and_by_ipv6_network() -> None:
    assert origin("::ffff:192.0.2.1") == "192.0.2.1" == origin("192.0.2.1")
    assert origin("2001:db8::1") == origin("2001:db8::ffff:1") != origin("2001:db8:0:1::1")
    ceilings = Ceilings()
    admitted = [ceilings.admit("a") for _ in range(40)]
    assert admitted.count(True) == 32
    ceilings.untrusted_ended("a")
    assert ceilings.admit("a") and not ceilings.admit("a")
    assert ceilings.admit("b")
    ceilings.leave("a")
    for _ in range(32):
        ceilings.untrusted_ended("a")
        ceilings.leave("a")
    ceilings.untrusted_ended("b")
    ceilings.leave("b")
    assert ceilings.open == 0 and not ceilings._each and not ceilings._untrusted


def test_untrusted_connections_of_the_busiest_address_are_closed_first() -> None:
    ceilings = Ceilings()
    for number in range(254):
        assert ceilings.admit(f"10.0.{number}") and ceilings.most_untrusted() is None
    assert ceilings.admit("10.1.1.1") and ceilings.most_untrusted() is None
    assert ceilings.admit("10.1.1.1") and ceilings.most_untrusted() is None
    assert ceilings.admit("10.2.2.2") and ceilings.most_untrusted() == "10.1.1.1"
    ceilings.untrusted_ended("10.1.1.1")
    assert ceilings.most_untrusted() is None


def test_connections_are_bounded_in_total() -> None:
    ceilings = Ceilings()
    assert sum(ceilings.admit(f"10.0.{number}") for number in range(3000)) == 2048
    assert len(ceilings._each) == len(ceilings._untrusted) == 2048


def test_a_server_certificate_names_its_hosts() -> None:
    made = make("root@x" * 40, START, server=True, hosts=["island", "127.0.0.1", "::1"])
    assert len(parse(made.certificate).common_name) == 64


async def test_permissions_of_a_certificate_end_with_the_project() -> None:
    certificates = await store_of(FakeClock())
    told: list[str] = []
    asked = Certificate("", pair().certificate, "x", restricted=True, projects=("blue", "green"))
    fingerprint = (await certificates.add(asked)).fingerprint
    free = (await certificates.add(Certificate("", pair().certificate, "y"))).fingerprint
    certificates.distrusted = told.append
    await certificates.project_renamed("blue", "red")
    assert certificates.caller(fingerprint, "").projects == frozenset({"red", "green"})
    await certificates.project_deleted("green")
    assert certificates.caller(fingerprint, "").projects == frozenset({"red"})
    await certificates.open()
    assert certificates.caller(fingerprint, "").projects == frozenset(), "there is no project red"
    assert certificates.caller(fingerprint, "").trusted and certificates.caller(free, "").admin
    assert told == [fingerprint] * 3


async def test_a_token_is_invalid_once_its_project_is_deleted() -> None:
    tokens = tokens_of(FakeClock())
    secret, _ = give(tokens)
    tokens.project_gone("green")
    tokens.project_gone("blue")
    with pytest.raises(Forbidden, match="wrong"):
        tokens.take(secret, "a")
