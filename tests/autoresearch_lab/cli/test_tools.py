"""Verbs as tools, and the skill file: both are the command line's declaration, and nothing is missing."""

import json
import re
import shlex

import click
import pytest

from autoresearch_lab.cli import skill
from autoresearch_lab.cli.app import VERBS, cli, main
from autoresearch_lab.cli.subject import FORMS
from autoresearch_lab.cli.tools import LEFT_OUT, LEFT_OUT_OPTIONS, TOOLS, command_line, declared, parameters, schema
from autoresearch_lab.errors import LabError


def parsed(line: list[str]) -> click.Context:
    verb, *rest = line
    return declared(verb).make_context(verb, rest, parent=click.Context(cli))


def test_every_verb_is_a_tool_or_left_out_by_name():
    assert set(TOOLS) | set(LEFT_OUT) == set(VERBS) and not set(TOOLS) & set(LEFT_OUT)
    for verb, left_out in LEFT_OUT_OPTIONS.items():
        assert left_out.isdisjoint(parameters(verb)) and left_out <= {
            max(one.opts, key=len).lstrip("-").replace("-", "_") for one in declared(verb).params
        }


@pytest.mark.parametrize("verb", TOOLS)
def test_the_schema_is_json_and_has_every_option(verb):
    made = json.loads(json.dumps(schema(verb), allow_nan=False))
    assert set(made["properties"]) == set(parameters(verb)) and "json" not in made["properties"]
    assert len(declared(verb).params) == len(made["properties"]) + 1 + len(LEFT_OUT_OPTIONS.get(verb, ()))


def test_types_bounds_and_defaults_are_those_of_the_options():
    found = schema("profile")["properties"]
    assert found["top_k"] == {"type": "integer", "minimum": 1, "description": "Rows of the table.", "default": 8}
    assert found["output"]["default"] == "profile.json" and found["wait"]["type"] == "boolean"
    assert schema("trial")["properties"]["foreign_limit"]["maximum"] == 1.0
    assert schema("export")["properties"]["format"]["enum"] == ["file", "wheel", "hf-kernels"]
    assert schema("trace-profile")["properties"]["map"]["items"] == {"type": "string"}
    assert schema("extract")["required"] == ["workspace", "profile"]
    assert schema("verify")["properties"]["kernels"]["description"] == f"Each as {FORMS}."


def test_arguments_become_the_words_of_the_verb():
    asked = {"kernels": ["--odd=x"], "budget": 5, "compiled_arm": False, "seed": None, "looks": "2"}
    line = command_line("bench", asked)
    assert line == ["bench", "--json", "--budget=5", "--looks=2", "--no-compiled-arm", "--", "--odd=x"]
    given = parsed(line).params
    assert given["kernels"] == ("--odd=x",) and given["budget_seconds"] == 5 and given["compiled_arm"] is False
    line = command_line("trace-diff", {"second": "b", "first": "-a", "step": "-x y"})
    given = parsed(line).params
    assert (given["first"].name, given["step"], given["as_json"]) == ("-a", "-x y", True)
    line = command_line("trace-profile", {"file": "f", "map": ["a=b", "c=d"]})
    assert line == ["trace-profile", "--json", "--map=a=b", "--map=c=d", "--", "f"] and parsed(line)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kernel": "x"}, "bench has no argument 'kernel'; it has: kernels, workspace"),
        ({"wait": "yes"}, 'wait is true or false, not "yes"'),
        ({"budget": True}, "budget is text or a number, not true"),
        ({"kernels": [{}]}, "kernels is text or a number, not {}"),
        ({"looks": ["1"]}, "looks is text or a number"),
        ({"looks": "a\0b"}, "is not text"),
        ({"looks": "\ud800"}, "is not text"),
    ],
)
def test_other_forms_are_refused(arguments, words):
    with pytest.raises(LabError, match=re.escape(words)):
        command_line("bench", arguments)


def test_commands_and_what_a_person_allows_are_no_arguments():
    for verb, name in (("gate", "command_base"), ("orchestrate", "proposer"), ("orchestrate", "allow_beyond_diet")):
        with pytest.raises(LabError, match=f"has no argument '{name}'"):
            command_line(verb, {name: "x"})


def test_the_skill_file_is_what_the_command_line_says():
    text = skill.DOCUMENT.read_text(encoding="utf-8")
    assert text == skill.text(), "run python -m autoresearch_lab.cli.skill"
    head, name, about, end, *_ = text.splitlines()
    assert head == end == "---" and name == f"name: {skill.DOCUMENT.parent.name}"
    assert 1 <= len(json.loads(about.removeprefix("description: "))) <= 1024 and len(text.splitlines()) < 500


@pytest.mark.parametrize("line", [line for line, _ in skill.LOOP])
def test_the_skills_commands_can_be_given(line):
    parsed(shlex.split(line))


def test_a_server_has_no_result_to_print(capsys):
    assert main(["mcp", "--json"]) == 2
    assert "No such option" in capsys.readouterr().err


def test_without_the_package_it_names_the_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("autoresearch_lab.cli.mcp.importlib.util.find_spec", lambda name: None)
    assert main(["--root", str(tmp_path), "mcp"]) == 2
    assert capsys.readouterr().err.endswith("install it with: pip install -e '.[mcp]'\n")
