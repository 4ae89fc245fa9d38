"""The lab's machine: asked once, when somebody needs it, or ahead."""

import threading

import pytest

from autoresearch_lab import machine
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.errors import LabFailure
from autoresearch_lab.lab import Lab
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root

HERE = Context(ENGINES["cpu"], {"kind": "cpu", "key": "c"}, {"key": "s"})


def test_a_machine_that_is_asked_ahead_is_asked_meanwhile_and_once(tmp_path, monkeypatch):
    asked, answer = threading.Event(), threading.Event()
    calls: list[object] = []

    def context(engine, root):
        calls.append((engine.name, root.path))
        asked.set()
        assert answer.wait(10)
        return HERE

    monkeypatch.setattr(machine, "context", context)
    lab = Lab(Root(tmp_path), "cpu")
    assert calls == []
    lab.ask_ahead()
    assert asked.wait(10)  # before anybody needs it
    answer.set()
    assert lab.context is HERE and lab.context is HERE
    assert calls == [("cpu", tmp_path)]


def test_what_goes_wrong_ahead_is_told_where_the_answer_is_needed(tmp_path, monkeypatch):
    def context(engine, root):
        raise LabFailure("describe: it broke")

    monkeypatch.setattr(machine, "context", context)
    lab = Lab(Root(tmp_path), "cpu")
    lab.ask_ahead()
    with pytest.raises(LabFailure, match="it broke"):
        _ = lab.context
