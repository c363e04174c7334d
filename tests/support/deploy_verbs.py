"""Deployments and rollbacks as verbs of the step tests: precondition, request, and check of the result."""

from __future__ import annotations

from instance_verbs import NAME, VICTIM, Verb, absent, absent_and_packed, record

from isola.instances.volatile import PREVIOUS_ID, ROLE
from isola.model.deployment import Strategy, Terms, Version
from isola.model.instance import Desired
from isola.testing.parts import World

PORT = {"type": "proxy", "listen": "tcp:192.0.2.1:80", "connect": "tcp:0.0.0.0:80", "nat": "true"}
SOCKET = {"type": "proxy", "listen": "unix:/run/web", "connect": "tcp:127.0.0.1:80"}
NIC = {"type": "nic", "network": "isolabr0", "name": "eth0", "dns.aliases": "www"}
FIXED = NIC | {"hwaddr": "10:66:6a:00:00:07"}
BEFORE, AFTER = {"user.version": "1"}, {"user.version": "2"}
BESIDE, STOP_FIRST = Terms(), Terms(strategy=Strategy.STOP_FIRST)


async def serving(world: World) -> None:
    await absent(world)
    devices = {"eth0": NIC, "http": PORT, "socket": SOCKET}
    await world.create(NAME, start=True, config=BEFORE, devices=devices)


async def serving_alone(world: World) -> None:
    """With an address that only one instance can have."""
    await absent(world)
    await world.create(NAME, start=True, config=BEFORE, devices={"eth0": FIXED, "http": PORT})


async def deployed(world: World) -> None:
    await serving(world)
    await deploys(world)


async def deployed_alone(world: World) -> None:
    await serving_alone(world)
    await deploys_stop_first(world)


async def deploys(world: World, terms: Terms = BESIDE) -> None:
    operation = world.parts.services.instances.deployments.deploy(VICTIM, Version("tiny", AFTER), terms)
    await world.finish(operation)


async def deploys_stop_first(world: World) -> None:
    await deploys(world, STOP_FIRST)


async def rolls_back(world: World, terms: Terms = BESIDE) -> None:
    await world.finish(world.parts.services.instances.deployments.rollback(VICTIM, terms))


async def rolls_back_stop_first(world: World) -> None:
    await rolls_back(world, STOP_FIRST)


def has(world: World, config: dict[str, str]) -> bool:
    """It runs with this configuration, and the other version is there and stopped."""
    found = record(world)
    if found is None or found.config != config or found.desired is not Desired.RUNNING or ROLE in found.volatile:
        return False
    others = [each for each in world.parts.records.instances if each.id == found.volatile.get(PREVIOUS_ID)]
    return [each.desired for each in others] == [Desired.STOPPED]


def serves_one(world: World) -> bool:
    """Exactly one version runs, under the name; nothing is left that is tried out."""
    found = [each for each in world.parts.records.instances if each.desired is Desired.RUNNING]
    tried = [each for each in world.parts.records.instances if each.volatile.get(ROLE) not in (None, "previous")]
    return [each.name for each in found] == [NAME] and not tried


def serves_one_of_two(world: World) -> bool:
    """The version that served before is there too: a rollback is always possible."""
    found = record(world)
    other = record(world, f"{NAME}-previous")
    return serves_one(world) and bool(found and other and found.volatile.get(PREVIOUS_ID) == other.id)


def none_or_serving(world: World) -> bool:
    return not list(world.parts.records.instances) or serves_one(world)


DEPLOYMENTS = (
    Verb("deploy-first", None, absent_and_packed, deploys, serves_one, always=none_or_serving),
    Verb("deploy", None, serving, deploys, lambda w: has(w, AFTER), always=serves_one),
    Verb("deploy-again", None, deployed, deploys, lambda w: has(w, AFTER), always=serves_one_of_two),
    Verb("deploy-stop-first", None, serving_alone, deploys_stop_first, lambda w: has(w, AFTER), always=serves_one),
    Verb("rollback", None, deployed, rolls_back, lambda w: has(w, BEFORE), always=serves_one),
    Verb(
        "rollback-stop-first",
        None,
        deployed_alone,
        rolls_back_stop_first,
        lambda w: has(w, BEFORE),
        always=serves_one,
    ),
)
