"""Repositories: the same store as pushed content and as images, through pushes, deletions and kills."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest
from interleaving import Interleaver
from registry_content import Content, artifact, blocks, digest_of, image, index

from isola.errors import Busy, Forbidden, InUse, InvalidInput, NotFound, TooLarge
from isola.images.repositories import Repositories, WrongOffset
from isola.model.image import Alias
from isola.model.project import Project
from isola.model.reference import Ref
from isola.model.repository import path_of, repository_at, split_alias
from isola.state import Step
from isola.testing.parts import World
from isola.testing.store import FakeStore

APP = Ref.default("team/app")


class Stand:
    """A daemon in memory."""

    def __init__(self, world: World) -> None:
        self.world = world

    @property
    def repositories(self) -> Repositories:
        return self.world.parts.services.repositories

    @property
    def images(self):  # type: ignore[no-untyped-def]
        return self.world.parts.services.images

    async def push(self, content: Content, reference: str = "", repository: Ref = APP) -> str:
        """Push a manifest with all that it needs; without a reference by its digest."""
        for digest, data in content.blobs.items():
            await self.repositories.upload(repository, digest, blocks(data))
        for each in content.manifests:
            await self.push(each, repository=repository)
        pushed = await self.repositories.push(repository, reference or content.digest, content.data, content.media_type)
        return pushed.digest

    async def restart(self) -> None:
        await self.world.parts.close()
        await self.world.start()

    async def on_disk(self) -> set[str]:
        return set(await self.images.store.digests())

    def names(self) -> set[str]:
        return {alias.name for alias in self.images.aliases()}

    async def collected(self) -> None:
        """All garbage is gone, also what is kept for a day."""
        await self.world.host.clock.advance(2 * 86400)
        await self.repositories.collect_garbage(self.world.host.clock.now())


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    world = World()
    await world.start()
    yield Stand(world)
    await world.parts.close()
    world.forget()


@pytest.mark.parametrize(
    ("path", "ref"),
    [
        ("app", Ref.default("app")),
        ("team/app", Ref.default("team/app")),
        ("project", Ref.default("project")),
        ("project/blue/app", Ref("blue", "app")),
        ("project/blue/team/app", Ref("blue", "team/app")),
    ],
)
def test_paths_lead_to_repositories_of_projects(path: str, ref: Ref) -> None:
    assert repository_at(path) == ref
    assert path_of(ref) == path


@pytest.mark.parametrize("path", ["", "App", "a//b", "../x", "a/", "/a", "a b", "project/blue", "a:1", "x" * 256])
def test_impossible_paths_are_refused(path: str) -> None:
    with pytest.raises(InvalidInput):
        repository_at(path)


def test_aliases_are_tags() -> None:
    assert split_alias("team/app:2") == ("team/app", "2")
    assert split_alias("debian/12") == ("debian/12", "latest")
    assert split_alias("docker.io/library/nginx:1.27") == ("docker.io/library/nginx", "1.27")
    assert split_alias("My System") is None


async def test_a_pushed_image_is_an_image_with_an_alias(stand: Stand) -> None:
    content = image()
    digest = await stand.push(content, "1")
    found = stand.images.resolve(Ref.default("team/app:1"))
    assert (found.manifest, found.fingerprint) == (digest, digest[7:])
    assert found.config.command == ("/bin/app",)
    views = stand.repositories.views
    assert (await views.manifest(APP, "1")).data == content.data
    assert (await views.manifest(APP, digest)).media_type == content.media_type
    assert views.tags(APP) == ["1"]
    assert APP in views.repositories()
    await stand.world.create("a1", image="team/app:1")
    assert stand.images.get(found.ref).last_used_at is not None


async def test_an_index_is_the_image_for_this_host(stand: Stand) -> None:
    first, second = image("amd"), image("arm", architecture="arm64")
    whole = index(first, second)
    await stand.push(whole, "1")
    found = stand.images.resolve(Ref.default("team/app:1"))
    assert (found.manifest, found.index) == (first.digest, whole.digest)
    views = stand.repositories.views
    assert (await views.manifest(APP, "1")).digest == whole.digest
    assert (await views.manifest(APP, "1", frozenset({first.media_type}))).digest == first.digest
    assert (await views.manifest(APP, second.digest)).data == second.data
    assert len(list(stand.images)) == 1


async def test_images_of_other_platforms_and_artifacts_are_no_images(stand: Stand) -> None:
    await stand.push(image(architecture="arm64"), "arm")
    await stand.push(artifact(), "chart")
    assert list(stand.images) == [] and stand.names() == set()
    assert stand.repositories.views.tags(APP) == ["arm", "chart"]
    await stand.restart()
    await stand.collected()
    assert (await stand.repositories.views.manifest(APP, "chart")).data == artifact().data


async def test_a_push_moves_the_tag(stand: Stand) -> None:
    old, new = image("old"), image("new")
    await stand.push(old, "1")
    await stand.push(new, "1")
    assert stand.images.resolve(Ref.default("team/app:1")).manifest == new.digest
    assert [each.manifest for each in stand.images] == [new.digest]
    views = stand.repositories.views
    assert (await views.manifest(APP, "1")).data == new.data
    assert (await views.manifest(APP, old.digest)).data == old.data, "the old one is there by its digest"
    await stand.push(artifact(), "1")
    assert stand.names() == set() and list(stand.images) == []
    assert (await views.manifest(APP, "1")).data == artifact().data


async def test_images_that_came_in_other_ways_can_be_pulled(stand: Stand) -> None:
    fingerprint = await stand.world.import_image("debian/12")
    found = stand.images.get(Ref.default(fingerprint))
    views = stand.repositories.views
    assert (await views.manifest(Ref.default("debian/12"), "latest")).digest == found.manifest
    for layer in found.layers:
        assert (await views.blob(Ref.default("debian/12"), layer.digest)).size == layer.size
    await stand.images.add_alias(Alias("docker.io/library/nginx:1", fingerprint))
    for name in ("nginx", "library/nginx", "docker.io/library/nginx"):
        assert (await views.manifest(Ref.default(name), "1")).digest == found.manifest
        assert views.tags(Ref.default(name)) == ["1"]
    assert [path_of(each) for each in views.repositories()] == ["debian/12", "docker.io/library/nginx"]
    attached = await views.referrers(Ref.default("debian/12"), found.manifest)
    assert [each.digest for each in attached.manifests] == [found.artifact]
    with pytest.raises(NotFound):
        await views.blob(Ref.default("other"), found.layers[0].digest)


async def test_another_alias_of_the_same_name_wins(stand: Stand) -> None:
    content = image()
    await stand.push(content, "1")
    fingerprint = await stand.world.import_image("other")
    await stand.images.update_alias(Ref.default("team/app:1"), lambda alias: Alias(alias.name, fingerprint))
    found = stand.images.get(Ref.default(fingerprint))
    assert (await stand.repositories.views.manifest(APP, "1")).digest == found.manifest
    await stand.images.remove_alias(Ref.default("team/app:1"))
    with pytest.raises(NotFound):
        await stand.repositories.views.manifest(APP, "1")
    assert stand.repositories.views.tags(APP) == []
    await stand.restart()
    assert (await stand.repositories.views.manifest(APP, content.digest)).data == content.data


async def test_deleting_the_image_deletes_what_was_pushed_for_it(stand: Stand) -> None:
    first, second = image("amd"), image("arm", architecture="arm64")
    whole = index(first, second)
    await stand.push(whole, "1")
    await stand.push(artifact(subject=whole))
    await stand.push(image("kept"), "2")
    await stand.world.finish(stand.images.start_delete(Ref.default(first.digest[7:])))
    views = stand.repositories.views
    assert views.tags(APP) == ["2"]
    for gone in (whole, first, second, artifact(subject=whole)):
        with pytest.raises(NotFound):
            await views.manifest(APP, gone.digest)
    await stand.collected()
    kept = image("kept")
    assert await stand.on_disk() == {kept.digest, *kept.blobs}


async def test_deleting_a_tag_keeps_the_manifest(stand: Stand) -> None:
    content = image()
    await stand.push(content, "1")
    await stand.push(content, "2")
    await stand.repositories.remove_tag(APP, "1")
    assert stand.names() == {"team/app:2"}
    await stand.repositories.remove_tag(APP, "2")
    assert list(stand.images) == []
    await stand.collected()
    assert (await stand.repositories.views.manifest(APP, content.digest)).data == content.data
    with pytest.raises(NotFound):
        await stand.repositories.remove_tag(APP, "2")


async def test_deleting_a_manifest_deletes_tags_aliases_and_content(stand: Stand) -> None:
    content = image()
    await stand.push(content, "1")
    await stand.push(content, "2")
    await stand.repositories.remove_manifest(APP, content.digest)
    assert stand.names() == set() and list(stand.images) == []
    with pytest.raises(NotFound):
        await stand.repositories.remove_manifest(APP, content.digest)
    await stand.collected()
    assert await stand.on_disk() == set()
    assert stand.repositories.views.repositories() == []


async def test_deleting_a_manifest_of_a_system_image_deletes_it(stand: Stand) -> None:
    fingerprint = await stand.world.import_image("debian/12")
    found = stand.images.get(Ref.default(fingerprint))
    await stand.images.add_alias(Alias("mine", fingerprint))
    await stand.repositories.remove_manifest(Ref.default("debian/12"), found.manifest)
    assert stand.names() == {"mine"}, "an image with another name stays"
    await stand.repositories.remove_manifest(Ref.default("mine"), found.manifest)
    assert list(stand.images) == []
    await stand.collected()
    assert await stand.on_disk() == set()


async def test_deleting_a_repository(stand: Stand) -> None:
    await stand.push(index(image(), image("arm", architecture="arm64")), "1")
    await stand.push(artifact(), "sbom")
    kept = image("another")
    await stand.push(kept, "1", Ref.default("other"))
    await stand.repositories.remove(APP)
    assert [path_of(each) for each in stand.repositories.views.repositories()] == ["other"]
    assert (await stand.repositories.views.manifest(Ref.default("other"), "1")).digest == kept.digest
    await stand.collected()
    assert await stand.on_disk() == {kept.digest, *kept.blobs}
    with pytest.raises(NotFound):
        await stand.repositories.remove(APP)


async def test_blobs_are_readable_through_their_repositories_alone(stand: Stand) -> None:
    data, other = b"secret", Ref.default("other/app")
    await stand.repositories.upload(APP, digest_of(data), blocks(data))
    views = stand.repositories.views
    assert (await views.blob(APP, digest_of(data))).size == len(data)
    with pytest.raises(NotFound):
        await views.blob(other, digest_of(data))
    refused = await stand.repositories.mount(other, digest_of(data), APP, lambda repository: False)
    assert not refused and not views.has_blob(other, digest_of(data))
    assert await stand.repositories.mount(other, digest_of(data), None, lambda repository: repository == APP)
    assert views.has_blob(other, digest_of(data))
    assert not await stand.repositories.mount(other, digest_of(b"missing"), APP, lambda repository: True)


async def test_a_blob_that_a_manifest_needs_cannot_be_deleted(stand: Stand) -> None:
    content = image()
    await stand.push(content, "1")
    [digest, *_] = content.blobs
    with pytest.raises(InUse):
        await stand.repositories.remove_blob(APP, digest)
    await stand.repositories.remove_manifest(APP, content.digest)
    await stand.repositories.remove_blob(APP, digest)
    with pytest.raises(NotFound):
        await stand.repositories.remove_blob(APP, digest)


class SlowStore(FakeStore):
    """Others have their turn before a commit, as while a disk writes."""

    async def commit(self, *steps: Step) -> int:
        await asyncio.sleep(0)
        return await super().commit(*steps)


@pytest.mark.parametrize("way", ["blob", "manifest", "everything", "old"])
async def test_what_is_removed_while_garbage_is_collected_does_not_stay(way: str) -> None:
    """A collection between the mark and the removal of the record finds the blob in use, and the mark remains."""
    world = World()
    world.store = SlowStore(world.host.clock)
    await world.start()
    stand = Stand(world)
    repositories, clock, interleaver = stand.repositories, stand.world.host.clock, Interleaver()
    data, content = b"alone", image()
    for at in interleaver.suspensions():
        await repositories.upload(APP, digest_of(data), blocks(data))
        await stand.push(content, "1")
        await clock.advance(2 * 86400 if way == "old" else 0)
        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "blob": lambda: repositories.remove_blob(APP, digest_of(data)),
            "manifest": lambda: repositories.remove_manifest(APP, content.digest),
            "everything": lambda: repositories.remove(APP),
            "old": lambda: repositories.collect_garbage(clock.now()),
        }
        await interleaver.run(asyncio.ensure_future(ways[way]()), stand.images.collect_garbage, at)
        with contextlib.suppress(NotFound):
            await repositories.remove(APP)
        await stand.images.collect_garbage()
        assert await stand.on_disk() == set(), f"at suspension {at}"
    await world.parts.close()
    world.forget()
    assert at > 1


async def test_a_manifest_needs_what_it_refers_to(stand: Stand) -> None:
    content = image()
    with pytest.raises(NotFound) as refused:
        await stand.repositories.push(APP, "1", content.data, content.media_type)
    assert refused.value.field == "blobs"
    whole = index(content)
    with pytest.raises(NotFound):
        await stand.repositories.push(APP, "1", whole.data, whole.media_type)
    assert await stand.on_disk() == set() and stand.repositories.views.repositories() == []


async def test_a_manifest_can_be_pushed_to_a_name_that_is_found_elsewhere(stand: Stand) -> None:
    """``nginx`` shows the blobs of ``docker.io/library/nginx``: a client does not send them again."""
    content = image()
    await stand.push(content, "1", Ref.default("docker.io/library/nginx"))
    nginx = Ref.default("nginx")
    assert stand.repositories.views.has_blob(nginx, next(iter(content.blobs)))
    await stand.repositories.push(nginx, "2", content.data, content.media_type)
    await stand.repositories.remove(Ref.default("docker.io/library/nginx"))
    await stand.collected()
    for digest in content.blobs:
        assert (await stand.repositories.views.blob(nginx, digest)).size


async def test_unused_blobs_are_kept_for_a_day(stand: Stand) -> None:
    data = b"pushed before its manifest"
    await stand.repositories.upload(APP, digest_of(data), blocks(data))
    await stand.repositories.collect_garbage(stand.world.host.clock.now() + timedelta(hours=23))
    assert await stand.on_disk() == {digest_of(data)}
    stand.repositories.note_found(APP, digest_of(data))
    now = stand.world.host.clock.now()
    await stand.world.host.clock.advance(90000)
    await stand.repositories.collect_garbage(now + timedelta(hours=1, seconds=-1))
    assert await stand.on_disk() == {digest_of(data)}
    await stand.collected()
    assert await stand.on_disk() == set()


async def test_referrers_of_missing_and_present_subjects(stand: Stand) -> None:
    subject = image()
    views = stand.repositories.views
    assert (await views.referrers(APP, subject.digest)).manifests == ()
    first = artifact("a", subject=subject, annotations={"k": "v"})
    second = artifact("b", "application/other", subject=subject)
    await stand.push(first)
    await stand.push(second, "tagged")
    found = (await views.referrers(APP, subject.digest)).manifests
    assert {each.digest: each.artifact_type for each in found} == {
        first.digest: "application/vnd.example.v1",
        second.digest: "application/other",
    }
    [chosen] = (await views.referrers(APP, subject.digest, "application/vnd.example.v1")).manifests
    assert chosen.annotations == {"k": "v"}
    assert (await views.referrers(Ref.default("elsewhere"), subject.digest)).manifests == ()


async def test_many_large_referrers_come_in_pages(stand: Stand) -> None:
    subject = image()
    notes = {f"key{number}": "x" * 60_000 for number in range(30)}
    pushed = {await stand.push(artifact(str(number), subject=subject, annotations=notes)) for number in range(6)}
    views, found, last = stand.repositories.views, list[str](), ""
    pages = 0
    while True:
        page = await views.referrers(APP, subject.digest, after=last)
        found += [each.digest for each in page.manifests]
        pages, last = pages + 1, page.last
        if not last:
            break
    assert sorted(found) == sorted(pushed) and pages > 1


async def test_public_images_alone_are_shown_to_untrusted_clients(stand: Stand) -> None:
    shown, hidden = image("shown"), image("hidden")
    await stand.push(shown, "1")
    await stand.push(hidden, "2")
    await stand.push(artifact(), "3")
    ref = Ref.default(shown.digest[7:])
    await stand.images.update(ref, lambda found: type(found)(**{**_fields(found), "public": True}))
    views = stand.repositories.views
    assert views.tags(APP, public=True) == ["1"]
    assert (await views.manifest(APP, shown.digest, public=True)).data == shown.data
    for digest in shown.blobs:
        assert await views.blob(APP, digest, public=True)
    for reference in ("2", "3", hidden.digest):
        with pytest.raises(NotFound):
            await views.manifest(APP, reference, public=True)
    for digest in set(hidden.blobs) - set(shown.blobs):
        with pytest.raises(NotFound):
            await views.blob(APP, digest, public=True)


def _fields(found: object) -> dict[str, object]:
    return {name: getattr(found, name) for name in type(found).__dataclass_fields__}  # type: ignore[attr-defined]


async def test_projects_have_their_own_repositories_and_limits(stand: Stand) -> None:
    projects = stand.world.parts.services.projects
    await projects.create(Project("blue", config={"limits.disk": "1MiB", "features.profiles": "false"}))
    blue = Ref("blue", "team/app")
    await stand.push(image(), "1", blue)
    assert stand.images.resolve(Ref("blue", "team/app:1")) is not None
    assert stand.images.resolve(Ref.default("team/app:1")) is None
    with pytest.raises(NotFound):
        await stand.repositories.views.manifest(APP, "1")
    large = b"x" * (2 << 20)
    with pytest.raises(Forbidden):
        await stand.repositories.upload(blue, digest_of(large), blocks(large))
    with pytest.raises(InUse):
        await projects.delete("blue")
    await stand.repositories.remove(blue)
    await projects.delete("blue")


async def test_an_upload_in_pieces(stand: Stand) -> None:
    data, uploads = bytes(range(256)) * 10_000, stand.repositories.uploads
    upload = await uploads.begin(APP)
    await uploads.append(upload, blocks(data[:1_500_000]), start=0, size=1_500_000)
    with pytest.raises(WrongOffset):
        await uploads.append(upload, blocks(b"x"), start=7)
    with pytest.raises(InvalidInput) as refused:
        await uploads.append(upload, blocks(b"xyz"), start=1_500_000, size=4)
    assert refused.value.field == "size" and upload.offset == 1_500_000
    with pytest.raises(NotFound):
        uploads.get(Ref.default("other"), upload.id)
    await uploads.append(upload, blocks(data[1_500_000:]))
    await uploads.complete(upload, digest_of(data))
    assert await stand.images.store.host.files.read(stand.images.store.path(digest_of(data))) == data
    with pytest.raises(NotFound):
        uploads.get(APP, upload.id)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_a_flipped_byte_is_refused(stand: Stand, algorithm: str) -> None:
    digest = digest_of(b"hello", algorithm)
    with pytest.raises(InvalidInput) as refused:
        await stand.repositories.upload(APP, digest, blocks(b"hel", b"lp"))
    assert refused.value.field == "digest"
    assert await stand.on_disk() == set()
    assert await stand.world.host.files.names(stand.images.store.directory / "uploads") == ()
    await stand.repositories.upload(APP, digest, blocks(b"hel", b"lo"))
    assert await stand.on_disk() == {digest}


async def test_what_arrived_before_a_break_is_kept(stand: Stand) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 1_100_000
        yield b"y" * 100
        raise InvalidInput("The body ended early")

    uploads = stand.repositories.uploads
    upload = await uploads.begin(APP)
    with pytest.raises(InvalidInput):
        await uploads.append(upload, broken())
    assert upload.offset == 1_100_100
    await uploads.append(upload, blocks(b"z"), start=1_100_100)
    await uploads.complete(upload, digest_of(b"x" * 1_100_000 + b"y" * 100 + b"z"))


async def test_uploads_go_on_after_a_restart(stand: Stand) -> None:
    upload = await stand.repositories.uploads.begin(APP)
    await stand.repositories.uploads.append(upload, blocks(b"first "))
    await stand.restart()
    again = stand.repositories.uploads.get(APP, upload.id)
    assert again.offset == 6
    await stand.repositories.uploads.append(again, blocks(b"second"))
    await stand.repositories.uploads.complete(again, digest_of(b"first second"))
    await stand.restart()
    assert await stand.on_disk() == {digest_of(b"first second")}
    with pytest.raises(NotFound):
        stand.repositories.uploads.get(APP, upload.id)


async def test_uploads_are_given_up_after_a_day(stand: Stand) -> None:
    upload = await stand.repositories.uploads.begin(APP)
    await stand.repositories.uploads.append(upload, blocks(b"first "))
    await stand.world.host.clock.advance(86401)
    await stand.repositories.look(stand.world.host.clock.now())
    with pytest.raises(NotFound):
        stand.repositories.uploads.get(APP, upload.id)
    assert await stand.world.host.files.names(stand.images.store.directory / "uploads") == ()


async def test_uploads_are_bounded(stand: Stand) -> None:
    await stand.world.parts.services.server.update(lambda config: {**config, "registry.upload_limit": "2MiB"})
    uploads = stand.repositories.uploads
    held = await uploads.begin(APP)
    await uploads.append(held, blocks(b"x" * (1 << 20)))
    with pytest.raises(TooLarge):
        await stand.repositories.upload(APP, digest_of(b"y"), blocks(b"y" * (2 << 20)))
    await uploads.cancel(held)
    await stand.repositories.upload(APP, digest_of(b"y" * (2 << 20)), blocks(b"y" * (2 << 20)))
    for _ in range(256):
        await uploads.begin(APP)
    with pytest.raises(Busy):
        await uploads.begin(APP)


async def test_one_request_at_a_time_writes_to_an_upload(stand: Stand) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        entered.set()
        await go_on.wait()
        yield b"b"

    uploads = stand.repositories.uploads
    upload = await uploads.begin(APP)
    first = asyncio.ensure_future(uploads.append(upload, slow()))
    await entered.wait()
    with pytest.raises(Busy):
        await uploads.append(upload, blocks(b"c"))
    with pytest.raises(Busy):
        await uploads.complete(upload, digest_of(b"ab"))
    go_on.set()
    await first
    await uploads.complete(upload, digest_of(b"ab"))


async def test_garbage_collection_spares_uploads_and_pushed_content(stand: Stand) -> None:
    content = image()
    await stand.push(content)
    upload = await stand.repositories.uploads.begin(APP)
    await stand.repositories.uploads.append(upload, blocks(b"x"))
    await stand.images.collect_garbage()
    assert await stand.images.unknown() == {}
    await stand.images.remove_unknown()
    assert await stand.on_disk() == {content.digest, *content.blobs}
    await stand.repositories.uploads.complete(upload, digest_of(b"x"))
