"""The skill file for coding agents, made of the command line: `python -m autoresearch_lab.cli.skill` writes it.

The format is that of agentskills.io: a folder of the skill's name with SKILL.md, where agents look for it.
"""

from __future__ import annotations

import json
import textwrap

import click

from autoresearch_lab.cli import app
from autoresearch_lab.cli.subject import FORMS
from autoresearch_lab.cli.tools import TOOLS, declared, is_switch, parameters, several
from autoresearch_lab.paths import CHECKOUT

NAME = "kernel-lab"
DOCUMENT = CHECKOUT / ".agents" / "skills" / NAME / "SKILL.md"
DESCRIPTION = (
    "Prove whether a kernel or a change makes a language-model trainer faster without harming what it learns. Use it "
    "to find where a training step's time goes, to write or optimise a kernel (C++, Triton, Metal, PyTorch, MLX), to "
    "verify, benchmark and promote one, to compare two versions of the trainer, to read a GPU trace (Nsight Systems, "
    "PyTorch), or to check that a change made nothing slower."
)
LOOP = (
    ("profile --output profile.json", "what is hot, and what could be saved"),
    ("extract --profile profile.json --rank 1 --workspace workspaces/try1", "then edit workspaces/try1/kernel.py"),
    ("verify workspaces/try1 --json", "right?"),
    ("bench workspaces/try1 --json", "faster, for sure?"),
    ("ab workspaces/try1 --json", "better in the trainer?"),
    ("promote workspaces/try1 --name my_kernel", "the trainer uses it"),
)


def text() -> str:
    """The file."""
    loop = "\n".join(f"    kernel-lab {line:<76} # {why}" for line, why in LOOP)
    ends = textwrap.dedent(app.__doc__ or "").strip().partition("\n\n")[2]
    verbs = "\n".join(f"- {usage(verb)}: {declared(verb).help}" for verb in TOOLS)
    return f"""---
name: {NAME}
description: {json.dumps(DESCRIPTION)}
---

# Kernel lab

You do not decide whether something is good: the verbs do, and what counts is in the ledger. Never edit an oracle, a
contract, the lab or the ledger to get a verdict. The whole manual is `program.md` in the root of this checkout; read it
before a long piece of work.

Once: `make setup`, `. .venv/bin/activate`, `python prepare.py --corpus stdlib`.

## The loop

{loop}

A kernel is named as {FORMS}. `evidence --target T` shows what was tried,
`promotion-check` names the next command. Run one measuring verb at a time: a busy machine makes verdicts AMBIGUOUS, and
AMBIGUOUS is no win.

A better trainer instead of a faster kernel: commit one idea, then `kernel-lab trial --a HEAD~1 --b HEAD`; keep it on
exit code 0, else reset.

## How a verb ends

{ends}

## Verbs

Each has `--help`, and `--json` for the whole result on stdout; remarks go to stderr. Those that measure have `--wait`.
`--engine` and `--root` stand before the verb. `kernel-lab mcp` serves the same verbs as tools.

{verbs}
"""


def usage(verb: str) -> str:
    """The verb and what it takes, in a line."""
    given = {name: one for name, one in parameters(verb).items() if name != "wait"}
    return " ".join([f"**{verb}**", *(f"`{_form(one)}`" for one in given.values())])


def _form(parameter: click.Parameter) -> str:
    kind = parameter.type
    if isinstance(parameter, click.Argument):
        return parameter.metavar or f"[{parameter.opts[0].upper()}]{'...' if several(parameter) else ''}"
    named = parameter.metavar or ("|".join(kind.choices) if isinstance(kind, click.Choice) else kind.name.upper())
    option = "/".join([*parameter.opts, *parameter.secondary_opts])
    form = option if is_switch(parameter) else f"{option} {named.removesuffix(' RANGE')}"
    return (form if parameter.required else f"[{form}]") + ("..." if several(parameter) else "")


if __name__ == "__main__":
    DOCUMENT.parent.mkdir(parents=True, exist_ok=True)
    DOCUMENT.write_text(text(), encoding="utf-8")
