"""The contract of builders: instructions out of a context, which nothing in it and no option can change in its kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from isola import registry
from isola.builds.builder import ADDED, Builder
from isola.builds.dockerfile.instructions import Cmd, Copy, Label, Run
from isola.builds.dockerfile.parsing import parse
from isola.builds.platforms import Platform
from isola.builds.stages import plan
from isola.errors import InvalidInput, IsolaError
from isola.host.linux import linux_host
from isola.model.build import BuildRequest

HOST = linux_host()
FILES = {
    "Dockerfile": 'FROM scratch\nCOPY . /\nCMD ["run"]\n',
    "script.ipxe": "#!ipxe\ndhcp && shell\n",
    "Makefile": "kernel.elf:\n\tcp $< $@\n",
    "Kraftfile": "spec: v0.6\n",
}
NEEDED = {"make": {"image": "tools"}, "kraft": {"image": "registry.example/tools:1"}}


@pytest.fixture(params=registry.names("builds"))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def builder(name: str) -> Builder:
    found: Builder = registry.load("builds", name)(HOST)
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for path, content in FILES.items():
        (tmp_path / path).write_text(content)
    return tmp_path


async def text_of(builder: Builder, place: Path, request: BuildRequest) -> bytes:
    builder.check(request)
    async with HOST.files.root(place) as root:
        return await builder.instructions(root, request)


def request(name: str, **more: object) -> BuildRequest:
    given = {"builder": name, "arguments": NEEDED.get(name, {})} | more
    return BuildRequest(**given)  # type: ignore[arg-type]


async def test_it_says_what_it_is_and_whether_it_works(name: str, builder: Builder) -> None:
    probe = await builder.probe(HOST)
    assert probe.available or (probe.reason and probe.remedy)
    assert builder.summary and builder.file in FILES
    assert all(row.help.endswith(".") for row in builder.settings)


async def test_a_context_becomes_instructions(name: str, builder: Builder, place: Path) -> None:
    parsed = parse(await text_of(builder, place, request(name)))
    amd64 = Platform.parse("linux/amd64")
    made = plan(parsed, given=builder.arguments(request(name)), host=amd64, platform=amd64)
    assert made.stages and any(isinstance(each, Cmd) for each in parsed.stages[-1].instructions)


async def test_a_context_without_its_file_is_refused(name: str, builder: Builder, tmp_path: Path) -> None:
    if name == "make":
        return  # its command says what it needs
    with pytest.raises(InvalidInput) as refused:
        await text_of(builder, tmp_path, request(name))
    assert refused.value.field == "dockerfile"


async def test_a_dockerfile_may_be_written_small(tmp_path: Path) -> None:
    """Where no other one is, as Docker does."""
    builder: Builder = registry.load("builds", "dockerfile")(HOST)
    (tmp_path / "dockerfile").write_text("FROM small\n")
    (tmp_path / ".dockerignore").write_text("dockerfile\n")
    for named in ("", "Dockerfile"):
        (tmp_path / "dockerfile").write_text("FROM small\n")
        assert await text_of(builder, tmp_path, request("dockerfile", dockerfile=named)) == b"FROM small\n"
        assert not (tmp_path / "dockerfile").exists(), "it is ignored by its own name"
    (tmp_path / "other").write_text("FROM small\n")
    with pytest.raises(InvalidInput, match="Cannot locate specified Dockerfile: Other"):
        await text_of(builder, tmp_path, request("dockerfile", dockerfile="Other"))
    (tmp_path / "Dockerfile").write_text("FROM large\n")
    assert await text_of(builder, tmp_path, request("dockerfile")) == b"FROM large\n"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("none", "x"),
        ("machine", "none"),
        ("image", "a\nRUN rm -rf /"),
        ("image", "a b"),
        ("kernel", "../../etc/passwd"),
        ("kernel", "/etc/passwd"),
        ("kernel", "a b"),
        ("kernel", "$HOME"),
        ("run", "make\nUSER root"),
        ("command", "'"),
        ("target", "a\nb"),
    ],
)
async def test_options_are_checked_before_anything_happens(
    name: str, builder: Builder, place: Path, option: str, value: str
) -> None:
    if name == "dockerfile":
        return  # its arguments are those of the file
    with pytest.raises(InvalidInput) as refused:
        builder.check(request(name, arguments={**NEEDED.get(name, {}), option: value}))
    assert refused.value.field == f"arguments.{option}"


@pytest.mark.parametrize("name", ["make", "kraft"])
async def test_a_tool_runs_in_a_container_and_its_kernel_is_taken_out(builder: Builder, place: Path, name: str) -> None:
    arguments = {
        **NEEDED[name],
        "command": "--ip {address} 'a b' $x",
        "initrd": "out/init*.cpio",
        "machine": "pc",
        **({"run": "make all && true 'x\"y'"} if name == "make" else {"target": "first"}),
        "HTTP_PROXY": "http://192.0.2.1/",
    }
    first, last = parse(await text_of(builder, place, request(name, arguments=arguments))).stages
    assert first.base.image == NEEDED[name]["image"] and last.base.image == "scratch"
    (run,) = [each for each in first.instructions if isinstance(each, Run)]
    expected = {
        "make": ("/bin/sh", "-ec", "make all && true 'x\"y'"),
        "kraft": (
            "kraft", "build", "--log-type", "basic", "--no-prompt", "--no-check-updates",
            "--plat", "qemu", "--arch", "x86_64", "--target", "first", ".",
        ),
    }  # fmt: skip
    assert run.argv == expected[name]
    copies = [each for each in last.instructions if isinstance(each, Copy)]
    assert [each.source_stage for each in copies] == ["build", "build"]
    (cmd,) = [each for each in last.instructions if isinstance(each, Cmd)]
    assert cmd.argv == ("--ip", "{address}", "a b", "$x")
    labels = " ".join(each.text for each in last.instructions if isinstance(each, Label))
    assert "machine='pc'" in labels and "initrd='/unikernel/initrd'" in labels and "type='unikernel'" in labels
    assert builder.arguments(request(name, arguments=arguments)) == {"HTTP_PROXY": "http://192.0.2.1/"}


@pytest.mark.parametrize("name", ["make", "kraft"])
async def test_without_an_image_there_is_no_tool(builder: Builder, name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        builder.check(request(name, arguments={}))
    assert refused.value.field == "arguments.image" and "argument image" in refused.value.remedy


@pytest.mark.parametrize("name", ["ipxe"])
async def test_a_script_is_added_where_the_client_has_placed_nothing(
    builder: Builder, place: Path, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (place / ADDED[1:]).symlink_to(outside)
    await text_of(builder, place, request(name))
    assert not list(outside.iterdir()) and (place / ADDED[1:] / "script").read_text() == FILES["script.ipxe"]
    (place / "other").write_text("echo no script\n")
    with pytest.raises(InvalidInput, match="is not an iPXE script"):
        await text_of(builder, place, request(name, dockerfile="other"))
    (place / "led.ipxe").symlink_to("/etc/passwd")
    with pytest.raises(IsolaError):
        await text_of(builder, place, request(name, dockerfile="led.ipxe"))


def test_stages_are_those_of_dockerfiles(name: str, builder: Builder) -> None:
    if name == "dockerfile":
        return builder.check(request(name, target="one"))
    with pytest.raises(InvalidInput, match="stages"):
        builder.check(request(name, target="one"))
