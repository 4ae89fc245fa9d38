"""Progress in a pipe: lines that say whose work it is and how far it is, whatever a job sends."""

import io

import pytest
from rich.console import Console

from autoresearch_lab.cli.progress import progress
from autoresearch_lab.jobs import about


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ({"stage": "warm-up"}, "profile: warm-up ..."),
        ({"stage": "warm-up", "done": 3, "total": 11}, "profile: warm-up, 3 of 11 ..."),
        ({"about": "A/B", "stage": "race 1 of 4", "done": 1.2848679440000979, "total": 8.0},
         "A/B: race 1 of 4, 1 of 8 s ..."),
        ({"stage": "round", "done": 7, "process": 2, "processes": 4}, "profile: process 2 of 4 ..."),
        ({"stage": "x[/]", "done": "many", "total": float("nan")}, "profile: x[/] ..."),
    ],
)  # fmt: skip
def test_a_line_can_be_read(message, line):
    log = Console(file=io.StringIO(), width=40, markup=False)
    with progress(log, "profile") as show:
        show({"expected": 3})
        show(message)
        show(message)  # soon after: no second line
    assert log.file.getvalue().split("\n") == [f"   {line}", ""]


def test_whose_work_it_is_is_not_the_jobs_to_say():
    heard = []
    tell = about("verify rms_norm=mine", heard.append)
    tell({"stage": "calls", "about": "something else"})
    assert heard == [{"stage": "calls", "about": "verify rms_norm=mine"}] and about("x", None) is None
