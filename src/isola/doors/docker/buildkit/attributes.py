"""Options of BuildKit's Dockerfile frontend as a request for a build."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from isola.builds.cache_options import INLINE_CACHE, cache_import
from isola.builds.cache_options import MOST as MOST_CACHES
from isola.builds.named_contexts import SENT, named_contexts
from isola.doors.docker.building import NETWORKS
from isola.doors.http.reading import parse_object
from isola.errors import InvalidInput, Unsupported
from isola.model.build import BuildRequest
from isola.model.build_cache import CacheExport, CacheImport, CacheType

_SILENT = (
    "frontend.caps", "cmdline", "contextkey", "dockerfilekey", "image-resolve-mode", "multi-platform",
    "build-arg:BUILDKIT_INLINE_CACHE", "build-arg:BUILDKIT_MULTI_PLATFORM", "build-arg:BUILDKIT_SYNTAX",
    "source-policy",
)  # fmt: skip
"""Hints, and what says how BuildKit itself works."""
_SILENT_PREFIXES = ("local-sessionid:", "vcs:", "attest:provenance")
_READ = (
    "context", "filename", "target", "platform", "no-cache", "add-hosts", "force-network-mode", "shm-size", "ulimit",
    "cache-from", "cache-imports", "hostname",
)  # fmt: skip
_REMEDIES: Mapping[str, str] = {
    "attest:": "attestations",
    "cgroup-parent": "--cgroup-parent",
    "source": "custom frontends",
    "entitlements": "entitlements",
}
_QUESTION = "requestid"
_UPLOAD = "http://buildkit-session"
_BUILD_ARGUMENT, _LABEL, _CONTEXT = "build-arg:", "label:", "context:"


def request_of(attributes: Mapping[str, str], project: str) -> BuildRequest:
    """Raises InvalidInput, Unsupported."""
    for name, value in attributes.items():
        if value or name != _QUESTION:
            _require_known(name)
    mode = attributes.get("force-network-mode", "")
    if mode not in NETWORKS:
        raise Unsupported(f"Builds on the network {mode[:40]} are not offered to clients of BuildKit", field="network")
    platform = attributes.get("platform", "")
    if "," in platform:
        raise Unsupported("Images for several platforms are not built at once", field="platform")
    return BuildRequest(
        dockerfile=attributes.get("filename") or "Dockerfile",
        target=attributes.get("target", ""),
        platform=platform,
        arguments=_with(attributes, _BUILD_ARGUMENT),
        labels=_with(attributes, _LABEL),
        no_cache="no-cache" in attributes,
        pull=attributes.get("image-resolve-mode") == "pull",
        network=NETWORKS[mode],
        config=_config(attributes),
        remote="" if upload_in(attributes) else attributes.get("context", ""),
        contexts=_contexts(attributes)[0],
        imports=_imports(attributes),
        exports=_inline(attributes),
        project=project,
    )


def _imports(attributes: Mapping[str, str]) -> tuple[CacheImport, ...]:
    """Caches of types that are not offered are left out: a build finds less in the cache then."""
    given = [{"type": "registry", "ref": name} for name in attributes.get("cache-from", "").split(",") if name]
    if text := attributes.get("cache-imports", ""):
        for each in parse_object(b'{"imports":' + text.encode() + b"}").objects("imports"):
            given.append({**each.mapping("Attrs"), "type": each.text("Type", "")})
    if len(given) > MOST_CACHES:
        raise InvalidInput(f"There are more than {MOST_CACHES} caches", field="cache-imports")
    found = [cache_import({"type": each["type"], "ref": each.get("ref", "")}) for each in given
             if each["type"] == CacheType.REGISTRY]  # fmt: skip
    return tuple(filter(None, found))


def _inline(attributes: Mapping[str, str]) -> tuple[CacheExport, ...]:
    wanted = attributes.get(f"{_BUILD_ARGUMENT}{INLINE_CACHE}", "").lower() in ("1", "true")
    return (CacheExport(CacheType.INLINE),) if wanted else ()


def directories_in(attributes: Mapping[str, str]) -> Mapping[str, str]:
    """Further contexts that the client has: what each is called in the archive -> by its session."""
    return _contexts(attributes)[1]


def _contexts(attributes: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """As a request has them, and those in the session. One that is for a platform alone is refused by its name."""
    found, sent = _with(attributes, _CONTEXT), dict[str, str]()
    for name, value in found.items():
        if value.startswith(SENT):
            directory = f"context-{len(sent) + 1}"
            sent[directory] = value.removeprefix(SENT)
            found[name] = f"{SENT}{directory}"
    named_contexts(found)
    return found, sent


def upload_in(attributes: Mapping[str, str]) -> str:
    """Where the client offers its context as one archive, as for ``docker build -``; empty if it has a directory."""
    context = attributes.get("context", "")
    return context.removeprefix(_UPLOAD) if context.startswith(_UPLOAD) else ""


def _require_known(name: str) -> None:
    if name in _SILENT or name in _READ or name.startswith((*_SILENT_PREFIXES, _BUILD_ARGUMENT, _LABEL, _CONTEXT)):
        return
    for beginning, what in _REMEDIES.items():
        if name == beginning or (beginning.endswith(":") and name.startswith(beginning)):
            raise Unsupported(f"This daemon's builder does not offer {what}", field=name)
    raise Unsupported(f"This daemon's builder does not know the option {name[:80]!r}", field=name[:80])


def _with(attributes: Mapping[str, str], prefix: str) -> dict[str, str]:
    found = {name: value for name, value in attributes.items() if name.startswith(prefix) and name not in _SILENT}
    return {name.removeprefix(prefix): value for name, value in found.items()}


def _config(attributes: Mapping[str, str]) -> Mapping[str, str]:
    found = {key: make(value) for name, (key, make) in _KEYS.items() if (value := attributes.get(name))}
    for limit in filter(None, attributes.get("ulimit", "").split(",")):
        name, _, value = limit.partition("=")
        found[f"limits.kernel.{name}"] = value.replace("-1", "unlimited")
    return found


def _same(text: str) -> str:
    return text


_KEYS: Mapping[str, tuple[str, Callable[[str], str]]] = {
    "add-hosts": ("isola.hosts", _same),
    "shm-size": ("isola.shm.size", _same),
    "hostname": ("isola.hostname", _same),
}
