"""The ledgers that are made for measuring are ledgers, and writers that are killed are counted."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from autoresearch_lab.engine import ENGINES
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root
from autoresearch_lab.results.record import WorkspaceRecord
from benchmarks.ledger_scale import RECORD_BYTES, Story, race


def test_a_ledger_that_is_made_for_measuring_holds(tmp_path: Path) -> None:
    context = Context(ENGINES["cpu"], {"kind": "cpu", "key": "cpu-1"}, {"key": "s1"})
    path = tmp_path / "ledger.jsonl"
    path.write_text("".join(Story(Lab.of(context, Root())).lines(300)))
    ledger = Ledger(path)
    assert len(ledger.records()) == 300 and ledger.problems() == [] and len(ledger.find(WorkspaceRecord)) == 6
    assert 0.8 < path.stat().st_size / 300 / RECORD_BYTES < 1.2


def test_a_writer_that_is_killed_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=160)
    console.print(race(2, 8, 1, tmp_path))
    shown = console.file.getvalue()
    assert "(killed)" in shown and "0 of those told lost; the chain holds" in shown
