"""Verb `gate`."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from autoresearch_common.files import write_atomic
from autoresearch_lab.bench.rule import BUDGET_SECONDS
from autoresearch_lab.cli.app import Session, VerbResult, command
from autoresearch_lab.cli.bench import budget_option
from autoresearch_lab.cli.options import DATASET, PATH, PresetName
from autoresearch_lab.cli.progress import progress
from autoresearch_lab.errors import LabError
from autoresearch_lab.gate import report
from autoresearch_lab.gate.commands import compare_commands
from autoresearch_lab.gate.kernels import GateAnswer, gate
from autoresearch_lab.gate.step import STEP_SECONDS, StepRace
from autoresearch_lab.paths import output_file


def run(
    session: Session,
    *,
    base: str | None,
    head: str | None,
    command_base: str | None,
    command_head: str | None,
    budget_seconds: float | None,
    **options: Any,
) -> VerbResult:
    commands = command_base is not None, command_head is not None
    if (base is None) is not any(commands) or any(commands) is not all(commands) or (base is None and head):
        raise LabError("gate: give --base REF (and --head REF), or --command-base CMD and --command-head CMD")
    asked = {report.markdown: options["markdown"], report.junit: options["junit"]}
    outputs = {write: output_file(path, "gate") for write, path in asked.items() if path is not None}
    with progress(session.log, session.verb) as show:
        if base is not None:
            preset = options["preset"] or session.lab.engine.default_preset
            step = StepRace(session.lab, base, head, preset, options["dataset"])
            if click.get_current_context().get_parameter_source("dataset") is not ParameterSource.DEFAULT:
                step.check_dataset()  # one that was named is to be there, whatever differs
            answer = gate(session.lab, base, head, step=step, budget_seconds=budget_seconds, on_progress=show)
        else:
            assert command_base is not None and command_head is not None
            row = compare_commands(command_base, command_head, budget_seconds=budget_seconds or BUDGET_SECONDS)
            answer = GateAnswer(f"{command_base} against {command_head}", [row])
    for write, path in outputs.items():
        write_atomic(path, write(answer))
    data = {
        "passes": answer.passes,
        "rows": [row.plain() for row in answer.rows],
        "left_out": answer.left_out,
    }
    return VerbResult(data, lambda console: report.render(answer, console), positive=answer.passes)


COMMANDS = {
    "gate": command(
        "gate",
        run,
        "Is a change slower? Verifies every kernel that differs between two commits and times it against what it was, "
        "and the training step, where that differs. Exit code 1 = a row is SLOWER or FAIL; what is AMBIGUOUS passes.",
        click.option("--base", metavar="REF", help="The commit to compare with."),
        click.option("--head", metavar="REF", help="The commit to judge [default: the working tree]."),
        click.option(
            "--preset", type=PresetName(), help="What the training step trains [default: what suits this machine]."
        ),
        DATASET,
        click.option("--command-base", metavar="CMD", help="Instead of both: the command to compare with,"),
        click.option("--command-head", metavar="CMD", help="and the one to judge."),
        budget_option(
            "Seconds for each row after which nothing more is begun. The first look is always taken. [default: "
            f"{BUDGET_SECONDS:g}; the training step: {STEP_SECONDS:g}]",
            None,
        ),
        click.option("--markdown", type=PATH, metavar="FILE", help="Write a summary for people."),
        click.option("--junit", type=PATH, metavar="FILE", help="Write the rows as test cases."),
    )
}
