"""Names of steps as clients of BuildKit show them."""

from __future__ import annotations

from isola.builds.dockerfile.parsing import parse, trigger
from isola.builds.labels import label_of_trigger, labels_of
from isola.builds.platforms import Platform
from isola.builds.stages import Plan, plan

AMD64 = Platform.parse("linux/amd64")


def planned(text: str) -> Plan:
    return plan(parse(text.encode()), given={}, host=AMD64, platform=AMD64)


def test_one_stage_has_no_name() -> None:
    made = planned('FROM app\nENV a=b\nrun make\nWORKDIR /x\nCMD ["y"]\n')
    assert labels_of(made, 0) == [
        "[1/3] FROM docker.io/library/app:latest",
        "",
        "[2/3] RUN make",
        "[3/3] WORKDIR /x",
        "",
    ]


def test_stages_count_for_themselves_and_bases_that_are_stages_are_not_shown() -> None:
    made = planned("FROM app AS one\nRUN a\nFROM one\nCOPY x y\nFROM scratch\nADD z /\n")
    assert [labels_of(made, at) for at in range(3)] == [
        ["[one 1/2] FROM docker.io/library/app:latest", "[one 2/2] RUN a"],
        ["", "[stage-1 1/1] COPY x y"],
        ["", "[stage-2 1/1] ADD z /"],
    ]


def test_numbers_are_aligned_and_platforms_named_where_there_are_several() -> None:
    made = planned("FROM --platform=linux/arm64 app\n" + "RUN a\n" * 10 + "FROM app AS two\n")
    assert labels_of(made, 0)[0] == "[linux/arm64 stage-0  1/11] FROM docker.io/library/app:latest"
    assert labels_of(made, 0)[10] == "[linux/arm64 stage-0 11/11] RUN a"
    assert labels_of(made, 1) == ["[linux/amd64 two 1/1] FROM docker.io/library/app:latest"]


def test_scripts_in_here_documents_are_summarised() -> None:
    scripts = ("<<E\n\n  echo a  \nE", "<<-E\n\ta\n\tb\nE", "<<E\nE", "cat <<E\na\nE", f"<<E\n{'x' * 300}\nE")
    made = planned("FROM app\n" + "".join(f"RUN {script}\n" for script in scripts) + "COPY <<E /f\na\nE\n")
    assert [label.partition("] ")[2] for label in labels_of(made, 0)[1:]] == [
        "RUN <<E (echo a)", "RUN <<-E (a...)", "RUN <<E ()", "RUN cat <<E", f"RUN <<E ({'x' * 200}...)", "COPY <<E /f",
    ]  # fmt: skip


def test_triggers() -> None:
    made = planned("FROM app\n")
    assert label_of_trigger(made, 0, trigger("RUN a", 1)) == "[trigger] RUN a"
    assert label_of_trigger(made, 0, trigger("ENV a=b", 1)) == ""
