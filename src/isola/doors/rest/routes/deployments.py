"""Deployments of new versions of instances, one or many in waves. Not in LXD's API."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from isola.doors.http.reading import Fields
from isola.doors.rest.answers import background
from isola.doors.rest.filtering import parse_filter
from isola.doors.rest.lookup import instances_of
from isola.doors.rest.programs import program_of
from isola.doors.rest.request import Request
from isola.doors.rest.routing import Permission
from isola.doors.rest.sources import image_of
from isola.errors import InvalidInput, NotFound
from isola.model.deployment import Strategy, Terms, Version, parse_wave
from isola.model.names import instance_name
from isola.model.reference import Kind, Ref

_LONGEST = 86_400
_MOST_WAVES = 100
_USUAL = Terms()


async def deploy(request: Request) -> web.StreamResponse:
    """Start deploying or, with the ``action`` ``rollback``, returning to the previous version.

    Of the instances in ``instances``, or those to which ``filter`` or ``made_from`` (an image) applies. The version:
    ``source`` as in ``POST /1.0/instances``, and what it has in place of what the one before it has: ``config``,
    ``devices``, ``profiles``, ``description``, ``program``, ``isolation``, ``runtime``. How: ``strategy``
    (``beside``, ``stop-first``), ``timeout``, ``settle``, ``drain`` and ``stop_timeout`` in seconds; ``waves``
    (``["1", "10%", "100%"]``: how many are done after each) or ``parallel``. With either, or more than one instance,
    the operation's metadata has ``instances`` with the ``status`` and ``error`` of each.
    """
    fields = await request.fields()
    action = fields.text("action", "") or "deploy"
    if action not in ("deploy", "rollback"):
        raise InvalidInput(f"Unknown action {action[:40]!r}", field="action", remedy="use deploy or rollback")
    refs, terms = _chosen(request, fields), _terms(fields)
    deployments, project = request.services.instances.deployments, request.project
    waves = _waves(fields, len(refs))
    alone = len(refs) == 1 and waves is None
    if action == "rollback":
        if alone:
            return background(deployments.rollback(refs[0], terms, caller=request.caller))
        return background(deployments.rollback_all(refs, terms, waves or (), project=project, caller=request.caller))
    version = _version(request, fields)
    if alone:
        return background(deployments.deploy(refs[0], version, terms, caller=request.caller))
    return background(deployments.deploy_all(refs, version, terms, waves or (), project=project, caller=request.caller))


def _chosen(request: Request, fields: Fields) -> list[Ref]:
    names, text, image = fields.texts("instances"), fields.text("filter", ""), fields.text("made_from", "")
    if sum(map(bool, (names, text, image))) != 1:
        raise InvalidInput(
            "The instances are not named",
            field="instances",
            remedy="use one of instances, filter and made_from",
        )
    home = request.home(Kind.INSTANCE)
    known = {each.ref: each for each in instances_of(request) if each.project == home}
    if names:  # other doors accept more names than this one
        refs = [Ref(home, name) for name in names]
        return [ref if ref in known else Ref(home, instance_name(ref.name, "instances")) for ref in refs]
    serving = [instance for instance in known.values() if not instance.aside]
    if text and (match := parse_filter(text)) is not None:
        found = [each.ref for each in serving if match(request.rendering.shape(each))]
    else:
        made = request.services.images.resolve(Ref(request.home(Kind.IMAGE), image))
        if made is None:
            raise NotFound(f"Image {image[:80]!r} not found", field="made_from")
        found = [each.ref for each in serving if each.image == made.fingerprint]
    if not found:
        raise NotFound("No instance is selected", field="filter" if text else "made_from", remedy="name instances")
    return found


def _version(request: Request, fields: Fields) -> Version:
    image = image_of(fields.inside("source"), request)
    if image is None:
        raise InvalidInput("A version is made from an image", field="source.type", remedy="use image")
    return Version(
        image=image,
        config=fields.mapping("config", empty=True),
        devices=fields.mappings("devices"),
        profiles=fields.texts("profiles") if fields.has("profiles") else None,
        description=fields.text("description") if fields.has("description") else None,
        isolation=fields.text("isolation", ""),
        runtime=fields.text("runtime", ""),
        program=program_of(fields),
    )


def _terms(fields: Fields) -> Terms:
    strategy = fields.text("strategy", "") or Strategy.BESIDE.value
    if strategy not in list(Strategy):
        raise InvalidInput(
            f"Unknown strategy {strategy[:40]!r}", field="strategy", remedy=f"use {' or '.join(Strategy)}"
        )

    def seconds(name: str, usual: float) -> float:
        return float(fields.whole(name, int(usual), maximum=_LONGEST))

    return Terms(
        strategy=Strategy(strategy),
        timeout=seconds("timeout", _USUAL.timeout),
        settle=seconds("settle", _USUAL.settle),
        drain=seconds("drain", _USUAL.drain),
        stop_timeout=seconds("stop_timeout", _USUAL.stop_timeout),
    )


def _waves(fields: Fields, count: int) -> Sequence[int | float] | None:
    """None: neither waves nor a number is named."""
    texts, parallel = fields.texts("waves"), fields.whole("parallel", 0, maximum=count)
    if texts and parallel:
        raise InvalidInput("waves and parallel exclude each other", field="parallel", remedy="use one of them")
    if len(texts) > _MOST_WAVES:
        raise InvalidInput(f"More than {_MOST_WAVES} waves", field="waves", remedy="use fewer")
    if parallel:
        return range(parallel, count + parallel, parallel)
    return [parse_wave(text) for text in texts] or None


ROUTES = (("POST", "/1.0/isola/deployments", deploy, Permission.EDIT),)
