"""``POST /1.0/certificates``: trusted callers add others; an untrusted client adds itself with a token."""

from __future__ import annotations

import asyncio
import base64
import binascii
from datetime import datetime

import orjson
from aiohttp import web

from isola.doors.http.ceilings import origin
from isola.doors.http.reading import Fields, parse_object
from isola.doors.rest.answers import background, created
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.errors import AlreadyExists, Conflict, Forbidden, InvalidInput, TimedOut
from isola.model.caller import Credential
from isola.model.certificate import Certificate, CertificateType, TokenRequest
from isola.model.expiry import Span
from isola.server import SETTINGS

_UNTRUSTED_BYTES = 64 * 1024
_UNTRUSTED_SECONDS = 10.0


async def add(request: Request) -> web.StreamResponse:
    """Trust a certificate, create a token (``token``), or use one (``trust_token``; in LXD 5.0 ``password``)."""
    caller = request.caller
    if not caller.trusted:
        return await _add_itself(request, await _untrusted_fields(request))
    fields = await request.fields()
    if not caller.admin:
        raise Forbidden("Only callers that are not restricted to projects may add certificates")
    if fields.boolean("token"):
        return await _create_token(request, fields)
    if not fields.text("certificate", ""):
        if caller.credential is Credential.CERTIFICATE:
            raise AlreadyExists("Certificate already in trust store", field="certificate")
        raise InvalidInput(
            "Field 'certificate' is missing",
            field="certificate",
            remedy="send a certificate, or set token to create a token",
        )
    requested = _requested(fields)
    added = await request.services.certificates.add(
        _certificate(requested, fields.text("certificate")), caller=request.caller
    )
    return created(f"/1.0/certificates/{added.fingerprint}")


async def _add_itself(request: Request, fields: Fields) -> web.StreamResponse:
    """An untrusted client with a token or the password: only the certificate proven in the handshake is added."""
    found = _presented(request)
    text = fields.text("trust_token", "") or fields.text("password", "")
    if not text:
        raise Forbidden("A token is required", remedy="create one on the server")
    granted = await _granted(request, fields, text)
    added = await request.services.certificates.add(_certificate(granted, found), caller=request.caller)
    return created(f"/1.0/certificates/{added.fingerprint}")


async def _granted(request: Request, fields: Fields, text: str) -> TokenRequest:
    """What a token or the trust password allows. Raises Forbidden."""
    secret, address = _secret(text), origin(_host(request))
    if secret or not request.services.trust_password.is_set:
        return request.services.tokens.take(secret, address)
    await request.services.trust_password.check(text, address)
    return TokenRequest(name=fields.text("name", ""))


async def _create_token(request: Request, fields: Fields) -> web.StreamResponse:
    services = request.services
    if not services.identity.addresses or services.identity.pair is None:
        raise Conflict("The server is not served over the network", remedy="set core.https_address first")
    requested = _requested(fields)
    if requested.type not in tuple(CertificateType):
        raise InvalidInput(f"Unknown type {requested.type[:40]!r}", field="type")
    services.certificates.checked_projects(requested.projects)
    operation = services.tokens.give(
        requested,
        fingerprint=services.identity.fingerprint,
        addresses=services.identity.addresses,
        expires_at=_expires_at(request),
    )
    return background(operation)


def _requested(fields: Fields) -> TokenRequest:
    if fields.text("password", "") or fields.text("trust_token", ""):
        raise InvalidInput("The caller is trusted already and needs no token", field="trust_token")
    return TokenRequest(
        name=fields.text("name", ""),
        type=fields.text("type", "") or CertificateType.CLIENT,
        restricted=fields.boolean("restricted"),
        projects=fields.texts("projects"),
        description=fields.text("description", ""),
    )


def _certificate(requested: TokenRequest, text: str) -> Certificate:
    return Certificate(
        "", text, requested.name, requested.type, requested.restricted, requested.projects, requested.description
    )


def _expires_at(request: Request) -> datetime | None:
    span = SETTINGS.value(request.services.server.config, "core.remote_token_expiry")
    try:
        return span.after(request.services.host.clock.now()) if isinstance(span, Span) else None
    except OverflowError:
        return None


def _secret(text: str) -> str:
    """The secret of a token, which is base64 of JSON with a field ``secret``; empty if it is malformed."""
    try:
        secret = orjson.loads(base64.b64decode(text, validate=True))["secret"]
    except (binascii.Error, ValueError, KeyError, TypeError):
        return ""
    return secret if isinstance(secret, str) else ""


async def _untrusted_fields(request: Request) -> Fields:
    try:
        async with asyncio.timeout(_UNTRUSTED_SECONDS):
            return parse_object(await request.body(_UNTRUSTED_BYTES))
    except TimeoutError:
        raise TimedOut("The request takes too long") from None


def _presented(request: Request) -> str:
    """The client's TLS certificate, base64 of DER as in the API. Raises Forbidden if there is none."""
    transport = request.http.transport
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    found = tls.getpeercert(binary_form=True) if tls is not None else None
    if not found:
        raise Forbidden("The client has sent no certificate", remedy="connect with a client certificate")
    return base64.b64encode(found).decode()


def _host(request: Request) -> str:
    return request.caller.address.rpartition(":")[0].strip("[]")


ROUTES = (("POST", "/1.0/certificates", add, Permission.GUEST),)
