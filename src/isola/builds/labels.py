"""Names of steps as BuildKit's clients show them: ``[test 2/5] RUN make``. Pure."""

from __future__ import annotations

from isola.builds.dockerfile.instructions import Copy, Instruction, Run, Workdir
from isola.builds.dockerfile.words import first_word, heredoc_of
from isola.builds.stages import Plan
from isola.errors import InvalidInput
from isola.model.image_reference import parse

_LONGEST = 200
_FILES = (Copy, Run, Workdir)
"""Instructions that make files; others change the configuration alone, and are not shown."""


def labels_of(plan: Plan, at: int) -> list[str]:
    """Of the base and of all instructions of a stage; empty for what is not shown."""
    planned = plan.stages[at]
    base = _base(plan, at)
    shown = [base, *(_text(each) if isinstance(each, _FILES) else "" for each in planned.stage.instructions)]
    total, number, found = sum(map(bool, shown)), 0, list[str]()
    for text in shown:
        number += bool(text)
        width = len(str(total))
        found.append(f"[{_stage(plan, at)}{number:>{width}}/{total}] {text}" if text else "")
    return found


def label_of_trigger(plan: Plan, at: int, instruction: Instruction) -> str:
    """Of an instruction that the base image has for those that are based on it."""
    return f"[{_stage(plan, at)}trigger] {_text(instruction)}" if isinstance(instruction, _FILES) else ""


def _stage(plan: Plan, at: int) -> str:
    """With the platform, if it is not the only one."""
    if len(plan.stages) == 1:
        return ""
    platforms = {each.platform for each in plan.stages}
    prefix = f"{plan.stages[at].platform} " if len(platforms) > 1 else ""
    return f"{prefix}{plan.stages[at].stage.base.name or f'stage-{at}'} "


def _base(plan: Plan, at: int) -> str:
    base = plan.stages[at].base
    if base.context:
        return f"FROM {base.context}"
    if base.stage is not None or base.image == "scratch":
        return ""
    if base.image.startswith("sha256:"):
        return f"FROM {base.image}"
    try:
        return f"FROM {parse(base.image).tagged().full}"
    except InvalidInput:
        return f"FROM {base.image}"


def _text(instruction: Instruction) -> str:
    name, rest = first_word(instruction.text)
    return f"{name.upper()} {rest}{_summary(instruction)}"


def _summary(instruction: Instruction) -> str:
    """The beginning of a script that is a here-document alone."""
    if not isinstance(instruction, Run) or not instruction.heredocs or heredoc_of(instruction.argv[0]) is None:
        return ""
    first, *more = instruction.heredocs[0].text.strip().split("\n")
    return f" ({first[:_LONGEST]}{'...' if more or len(first) > _LONGEST else ''})"
