"""Tokens of a registry's authorization server (distribution's token protocol, and OAuth 2 for refresh tokens)."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

from isola.errors import Forbidden, HostFailure
from isola.host.http import Http, HttpRequest, check_url, server_of
from isola.images.hostile_json import Fields
from isola.images.registry.challenge import Challenge
from isola.images.registry.credentials import Credentials
from isola.images.registry.endpoints import Endpoint
from isola.images.registry.failures import failure

_CLIENT = "isola"
_MOST = 1 << 20
_SECONDS, _LONGEST = 60, 24 * 3600
_HEADER_MAX = 16 << 10


async def fetch_token(
    http: Http, endpoint: Endpoint, challenge: Challenge, credentials: Credentials, scope: str
) -> tuple[str, float]:
    """A token for the scope, and the seconds for which it is valid. Raises Forbidden, HostFailure, InvalidInput."""
    request = _request(endpoint, challenge, credentials, scope)
    async with http.exchange(request) as response:
        if response.status != 200:
            raise await failure(response, "a token")
        fields = Fields.parse(await response.read(_MOST), "token")
    token = fields.text("token") or fields.text("access_token")
    if not token or len(token) > _HEADER_MAX or not token.isascii() or not token.isprintable():
        raise HostFailure(f"The server {server_of(request.url)} sent no usable token")
    return token, fields.number("expires_in", most=1 << 40) or _SECONDS


def _request(endpoint: Endpoint, challenge: Challenge, credentials: Credentials, scope: str) -> HttpRequest:
    realm = _realm(endpoint, challenge)
    service = challenge.parameters.get("service", "")
    scope = scope or challenge.parameters.get("scope", "")
    if credentials.identity_token:
        form = {"grant_type": "refresh_token", "refresh_token": credentials.identity_token, "client_id": _CLIENT}
        form |= {"service": service} | ({"scope": scope} if scope else {})
        return HttpRequest(
            "POST",
            realm,
            {"Content-Type": "application/x-www-form-urlencoded"},
            urlencode(form).encode(),
            trust=endpoint.trust,
            named=endpoint.named,
        )
    query = [("service", service)] if service else []
    query += [("scope", each) for each in scope.split()]
    if credentials.username:
        query += [("account", credentials.username), ("client_id", _CLIENT)]
    headers = {"Authorization": credentials.basic} if credentials.username else {}
    joint = "&" if urlsplit(realm).query else "?"
    return HttpRequest(
        "GET",
        f"{realm}{joint}{urlencode(query)}",
        headers,
        trust=endpoint.trust,
        plain=endpoint.plain,
        named=endpoint.named,
    )


def _realm(endpoint: Endpoint, challenge: Challenge) -> str:
    """The address of the authorization server: never unencrypted, unless the registry may be."""
    realm = check_url(challenge.parameters.get("realm", ""))
    if not realm.startswith("https:") and not endpoint.plain:
        raise Forbidden(
            f"The registry {endpoint.domain} asks for credentials to be sent without encryption",
            evidence=realm[:200],
            remedy="name it in images.registry.insecure if that is acceptable",
        )
    return realm
