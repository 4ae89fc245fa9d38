"""The small lab of the trials, in which a scripted researcher changes plan.json, and the training says at once what
that is worth."""

import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from autoresearch_lab.propose import loop as proposals
from autoresearch_lab.research.loop import Research, ResearchLimits
from autoresearch_lab.versions.rule import TrialRule

from ..versions.conftest import git, here  # noqa: F401

# What a researcher's script begins with: how many ideas there were, and the plan that it may change.
HEAD = """
import json, os, pathlib, subprocess, time
tree, told = pathlib.Path.cwd(), json.loads(pathlib.Path(os.environ["KERNEL_LAB_IDEAS"]).read_text())
number, plan = len(told["ideas"]) + 1, json.loads(pathlib.Path("plan.json").read_text())
def write(**changed):
    pathlib.Path("plan.json").write_text(json.dumps({**plan, **changed}))
"""


@dataclass
class Night:
    """Research in that lab. `script`: the researcher's; `call`: tries ideas."""

    here: SimpleNamespace
    told: list[str]

    def script(self, body: str) -> str:
        file = self.here.path / "results" / "researcher.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(HEAD + body)
        return f"{sys.executable} -I -S {file}"

    def research(self, body: str, ideas: int | None, hours: float | None = None, seconds: float = 20.0) -> Research:
        limits = ResearchLimits(ideas, hours, seconds, 60.0)
        line = self.script(body)
        return Research(self.here.lab, line, "night", "cpu-nano", "stdlib", TrialRule(), limits, self.told.append)

    def call(self, body: str, ideas: int | None, **limits: float):
        return self.research(body, ideas, **limits).run()

    @property
    def rows(self) -> list[list[str]]:
        lines = (self.here.path / "results.tsv").read_text().splitlines()
        return [line.split("\t") for line in lines[1:]]

    def at(self, commit: str = "night", file: str = "plan.json") -> str:
        return git(self.here.path, "show", f"{commit}:{file}")


@pytest.fixture
def night(here: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Night:  # noqa: F811
    monkeypatch.setattr(proposals, "code_digest", Digest())
    here.stub.noise = 0.0
    return Night(here, [])


class Digest:
    """Of the lab's code, as its context has it."""

    def __call__(self, package: str) -> str:
        return "x"

    def cache_clear(self) -> None: ...
