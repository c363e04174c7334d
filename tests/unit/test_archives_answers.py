"""Results of the process that reads archives: accepted if they have the right structure, otherwise refused."""

import json
from pathlib import Path

import pytest

from isola.errors import HostFailure, UnsafeArchive
from isola.host.archive.answers import Answer, read_answer
from isola.host.archive.archives import LinuxArchives
from isola.host.archive.forked import Ended, Forked
from isola.host.process import LinuxProcesses


def deep(levels: int) -> object:
    document: object = "x"
    for _ in range(levels):
        document = [document]
    return document


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"1", b"null", b"[" * 100_000, b'{"a": ' * 100_000, b"\xff", b"9" * 10_000, b'{"error": null}'],
)
def test_malformed_results_are_refused(data: bytes) -> None:
    with pytest.raises(HostFailure):
        read_answer(data)


def test_errors_are_raised_again_and_bounded() -> None:
    told = {"error": "unsafe_archive", "message": "m" * 100_000, "evidence": ["x"], "remedy": None}
    with pytest.raises(UnsafeArchive) as caught:
        read_answer(json.dumps(told).encode())
    assert len(caught.value.message) < 10_000
    with pytest.raises(HostFailure):
        read_answer(json.dumps({"error": "no_such_error", "message": "m"}).encode())


@pytest.mark.parametrize("value", [None, -1, True, 1.5, "1", 1 << 64, [1]])
def test_numbers(value: object) -> None:
    with pytest.raises(HostFailure):
        Answer({"key": value}).number("key")


@pytest.mark.parametrize("value", [None, "x", [1], [["x"]], ["x"] * 100_000, ["x" * 100_000], {"x": "y"}])
def test_texts(value: object) -> None:
    with pytest.raises(HostFailure):
        Answer({"key": value}).texts("key")


@pytest.mark.parametrize("value", [None, [], {"other": "x"}, {"known": 1}, {"known": "x" * 100_000}])
def test_pairs(value: object) -> None:
    with pytest.raises(HostFailure):
        Answer({"key": value}).pairs("key", ("known",))


@pytest.mark.parametrize("value", [None, [], {"other": "00"}, {"known": 1}, {"known": "0x"}, {"known": "00" * 101}])
def test_members(value: object) -> None:
    with pytest.raises(HostFailure):
        Answer({"key": value}).members("key", ("known",), limit=100)


@pytest.mark.parametrize("value", [None, {}, [1], [{"other": "x"}], [{"known": 1}], [{"known": "x" * 6000}] * 3])
def test_pieces(value: object) -> None:
    with pytest.raises(HostFailure):
        Answer({"key": value}).pieces("key", ("known",), limit=100)


@pytest.mark.parametrize("value", [None, 1, "sha256:x", "sha256:" + "A" * 64, "../" + "a" * 64])
def test_digests(value: object) -> None:
    with pytest.raises(HostFailure):
        Answer({"key": value}).digest("key")


@pytest.mark.parametrize("value", [None, 1, "x", "0", "00" * 11])
def test_contents(value: object) -> None:
    with pytest.raises(HostFailure):
        Answer({"key": value}).content("key", 10)


@pytest.mark.parametrize("value", [1, True, {"a": 1}, [1.5], deep(20), ["x"] * 30_000, [["x"] * 100] * 300])
def test_documents(value: object) -> None:
    with pytest.raises(HostFailure):
        Answer({"key": value}).document("key")
    assert Answer({"key": {"a": [None, "x"]}}).document("key") == {"a": [None, "x"]}
    assert Answer({"key": deep(16)}).document("key") == deep(16)


class FakeReader(Forked):
    """A process with the output that the test wants."""

    def __init__(self, lines: list[str], answer: bytes) -> None:
        self.lines, self.answer = lines, answer

    async def run(self, request, *, on_line=None, descriptor=None) -> Ended:  # type: ignore[no-untyped-def]
        for line in self.lines:
            on_line(line)
        return Ended(0, self.answer, b"")


async def test_progress_is_a_number_that_grows() -> None:
    told: list[int] = []
    lines = [
        "progress 5",
        "progress -1",
        "progress ²",
        "progress " + "9" * 5000,
        "progress 3",
        "progress",
        "x",
        "progress 9",
    ]
    answer = b'{"entries": 1, "bytes": 2, "skipped": [], "diff_id": "sha256:%s"}' % (b"0" * 64)
    archives = LinuxArchives(LinuxProcesses(), FakeReader(lines, answer))

    await archives.unpack(Path("a"), Path("b"), progress=told.append)
    assert [step for step in told if step] == [5, 4]


async def test_a_result_of_the_wrong_structure_fails_the_work() -> None:

    with pytest.raises(HostFailure, match="invalid result"):
        await LinuxArchives(LinuxProcesses(), FakeReader([], b'{"entries": "all"}')).unpack(Path("a"), Path("b"))
