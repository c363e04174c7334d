"""Images of unikernels: imported from a kernel, ordinary OCI images for everything else."""

import hashlib
import io
import tarfile

import kernels
import pytest
import zstandard
from image_library import World

from isola.errors import InvalidInput, IsolaError
from isola.images import ImageLibrary
from isola.instances.program import begin
from isola.model.image import Image
from isola.model.instance import InstanceRequest
from isola.model.kernel import Kernel, kernel_of, labels_of
from isola.model.program import Program
from isola.model.reference import Ref

UNIKERNEL = {"isola.type": "unikernel"}


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def library(world: World) -> ImageLibrary:
    return await world.start()


async def imported(world: World, library: ImageLibrary, *contents: bytes, **properties: str) -> Image:
    files = [await world.upload(f"file{number}", content) for number, content in enumerate(contents)]
    given = UNIKERNEL | {key.replace("_", "."): value for key, value in properties.items()}
    done = await world.operations.finish(library.start_import(files, properties=given))
    return library.get(Ref.default(str(done.metadata["fingerprint"])))


async def members(library: ImageLibrary, image: Image) -> dict[str, bytes]:
    data = zstandard.ZstdDecompressor().decompressobj().decompress(await library.store.read(image.layers[0].digest))
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == image.layers[0].diff_id
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {each.name: archive.extractfile(each).read() for each in archive if each.isfile()}  # type: ignore[union-attr]


async def test_a_kernel_becomes_an_image_with_one_layer(world: World, library: ImageLibrary) -> None:
    image = await imported(
        world, library, kernels.pvh(), isola_command="--ip '{address}' 'a b'", isola_machine="microvm", os="Tiny"
    )
    assert await members(library, image) == {"unikernel/kernel": kernels.pvh()}
    assert image.config.command == ("--ip", "{address}", "a b")
    assert image.config.labels["org.isola.image.type"] == "unikernel"
    assert image.config.labels["org.isola.unikernel.format"] == "pvh"
    assert kernel_of(image.config.labels) == Kernel(machine="microvm")
    assert (image.type, image.properties["os"]) == ("virtual-machine", "Tiny")
    assert await world.leftovers() == ()


async def test_a_second_file_is_the_initial_file_system(world: World, library: ImageLibrary) -> None:
    image = await imported(world, library, kernels.multiboot(), b"#!ipxe\n")
    assert await members(library, image) == {"unikernel/kernel": kernels.multiboot(), "unikernel/initrd": b"#!ipxe\n"}
    assert kernel_of(image.config.labels).initrd == "/unikernel/initrd"


async def test_the_same_kernel_gives_the_same_image(world: World, library: ImageLibrary) -> None:
    first = await imported(world, library, kernels.pvh())
    await world.operations.finish(library.start_delete(first.ref))
    assert (await imported(world, library, kernels.pvh())).fingerprint == first.fingerprint


@pytest.mark.parametrize(
    ("content", "properties", "says"),
    [
        (b"not a kernel", {}, "neither an ELF file"),
        (kernels.pvh(offset=1 << 40), {}, "after the end of the file"),
        (kernels.pvh(), {"isola_machine": "toaster"}, "is not q35, pc, microvm"),
        (kernels.multiboot(), {"isola_machine": "microvm"}, "starts no multiboot"),
        (kernels.pvh(), {"isola_command": "'"}, "arguments"),
        (kernels.pvh(), {"isola_colour": "red"}, "no property"),
        (kernels.pvh(), {"isola_platform": "x" * 101}, "short line"),
        (kernels.pvh(), {"architecture": "aarch64"}, "aarch64"),
    ],
)
async def test_what_cannot_be_started_is_refused(
    world: World, library: ImageLibrary, content: bytes, properties: dict[str, str], says: str
) -> None:
    before = await world.blobs()
    with pytest.raises(IsolaError, match=says):
        await imported(world, library, content, **properties)
    assert await world.blobs() == before
    assert await world.leftovers() == ()
    assert list(library) == []


async def test_an_instance_gets_the_kernel_and_other_arguments(world: World, library: ImageLibrary) -> None:
    image = await imported(world, library, kernels.pvh(), isola_command="a b")
    request = InstanceRequest("uk", image.fingerprint, program=Program(arguments=("c",)))
    begins = begin(image, (), request)
    assert (begins.kernel, begins.command, begins.system) == (Kernel(), ("c",), False)


async def test_a_kernel_needs_no_arguments(world: World, library: ImageLibrary) -> None:
    image = await imported(world, library, kernels.pvh())
    assert begin(image, (), InstanceRequest("uk", image.fingerprint)).command == ()


@pytest.mark.parametrize("kernel", [Kernel(), Kernel("/boot/k", "/boot/i", "pc", "solo5")])
def test_labels_say_all_of_a_kernel(kernel: Kernel) -> None:
    assert kernel_of(labels_of(kernel)) == kernel


@pytest.mark.parametrize("path", ["boot/kernel", "/../kernel", "/a\0b", "/" + 4096 * "x"])
def test_paths_of_labels_stay_in_the_root(path: str) -> None:
    with pytest.raises(InvalidInput):
        kernel_of({"org.isola.unikernel.kernel": path})
