"""What the tests of the plan for a GPU share."""

import pytest

from autoresearch_lab.engine import ENGINES
from autoresearch_lab.machine import Context


@pytest.fixture
def rehearsed_on(monkeypatch):
    """The machine of a rehearsal, without asking for it."""
    here = Context(ENGINES["cpu"], {"kind": "cpu", "name": "a CPU", "key": "cpu-1"}, {"torch": "2", "key": "s"})
    monkeypatch.setattr("autoresearch_lab.machine.context", lambda engine, root: here)
