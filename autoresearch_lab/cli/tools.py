"""The verbs as tools for programs: what each is given, as JSON Schema, and the command line that a call stands for.

Both are made of the command line's own declaration, so there is no second list of verbs, options or help.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import click

from autoresearch_lab.cli.app import VERBS, cli, words
from autoresearch_lab.cli.research import ResearchOptions
from autoresearch_lab.cli.subject import FORMS
from autoresearch_lab.errors import LabError

# Verbs that are no tools, and why.
LEFT_OUT = {
    "mcp": "it goes on until its caller leaves",
    "watch": "it is a live view for people, which never returns",
    "review-trace": "it records what a person found",
}
# Options that are none: those that hand in a command to run, what only a person may allow, and what is for tests.
LEFT_OUT_OPTIONS = {
    "gate": {"command_base", "command_head"},
    "orchestrate": {
        *("proposer", "proposals", "proposer_seconds", "allow_beyond_diet"),
        *(field.name for field in fields(ResearchOptions)),
    },
    "run": {"rehearse"},
}
# What the words are that stand behind a verb; the command line has no help for them.
PLACES = {
    "kernels": f"Each as {FORMS}.",
    "runs": "Folders of runs of train.py, such as runs/last.",
}
TOOLS = tuple(verb for verb in VERBS if verb not in LEFT_OUT)


def declared(verb: str) -> click.Command:
    """The verb as the command line has it."""
    found = cli.get_command(click.Context(cli), verb)
    assert found is not None
    return found


def parameters(verb: str) -> dict[str, click.Parameter]:
    """What a tool takes, by name: as the command line spells it, with _ for -. A tool always answers in JSON."""
    named = {max(one.opts, key=len).lstrip("-").replace("-", "_"): one for one in declared(verb).params}
    return {name: one for name, one in named.items() if name not in {"json", *LEFT_OUT_OPTIONS.get(verb, ())}}


def several(parameter: click.Parameter) -> bool:
    return parameter.nargs == -1 or parameter.multiple


def is_switch(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option) and parameter.is_flag


def schema(verb: str) -> dict[str, Any]:
    """Of a tool's arguments."""
    given = parameters(verb)
    return {
        "type": "object",
        "properties": {name: _property(one) for name, one in given.items()},
        "required": [name for name, one in given.items() if one.required],
        "additionalProperties": False,
    }


def _property(parameter: click.Parameter) -> dict[str, Any]:
    kind = parameter.type
    found: dict[str, Any] = {"type": "string"}
    if is_switch(parameter):
        found = {"type": "boolean"}
    elif isinstance(kind, click.Choice):
        found["enum"] = list(kind.choices)
    elif isinstance(kind, click.types.IntParamType | click.types.FloatParamType):
        found = {"type": "integer" if isinstance(kind, click.types.IntParamType) else "number"}
        bounds = {"minimum": getattr(kind, "min", None), "maximum": getattr(kind, "max", None)}
        found |= {word: bound for word, bound in bounds.items() if bound is not None}
    if several(parameter):
        found = {"type": "array", "items": found}
    if text := getattr(parameter, "help", None) or PLACES.get(parameter.name or "", parameter.metavar):
        found["description"] = text
    default = parameter.to_info_dict()["default"]
    if default is not None:
        found["default"] = default if isinstance(default, bool | int | float) else str(default)
    return found


def command_line(verb: str, arguments: Mapping[str, object]) -> list[str]:
    """The words of the verb for these arguments; null leaves one out.

    Raises:
        LabError: an argument is unknown, or has another form. Values are for the verb itself to refuse.
    """
    known = parameters(verb)
    if unknown := sorted(set(arguments) - set(known)):
        raise LabError(f"{verb} has no argument {unknown[0]!a}; it has: {', '.join(known)}")
    options, places = ["--json"], []
    for name, one in known.items():
        value = arguments.get(name)
        if value is None:
            continue
        if is_switch(one):
            if not isinstance(value, bool):
                raise LabError(f"{verb}: {name} is true or false, not {json.dumps(value)}")
            options += one.opts if value else one.secondary_opts
            continue
        values = value if several(one) and isinstance(value, list) else [value]
        for each in values:
            if isinstance(each, bool) or not isinstance(each, str | int | float):
                raise LabError(f"{verb}: {name} is text or a number, not {json.dumps(each)}")
            if isinstance(one, click.Option):
                options.append(f"{one.opts[0]}={each}")
            else:
                places.append(str(each))
    return words([verb, *options, "--", *places])
