"""The ledger keeps what was written, in order, through torn lines, tampering and concurrent writers."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from autoresearch_lab.errors import LabError
from autoresearch_lab.ledger import Ledger, LedgerCorrupt
from autoresearch_lab.results.record import Record

DESIGN_KEYS = set(
    "schema id prev time kind engine device software commit target kernel workloads seeds settings results "
    "verdict artifacts".split()
)

SETTINGS = {"event": "failed", "step": "bench"}


def note(ledger: Ledger, **more: Any) -> Record:
    return ledger.append("note", settings=SETTINGS, results={"reason": "none"}, **more)


def verified(ledger: Ledger, **more: Any) -> Record:
    fields = {"target": "rope", "kernel": {"name": "k", "sha256": "a" * 64}, "verdict": "PASS"}
    return ledger.append("verify", **{**fields, **more})


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "results" / "ledger.jsonl")


def test_record_has_the_keys_of_the_design_and_survives_a_round_trip(ledger: Ledger) -> None:
    written = ledger.append("note", settings=SETTINGS, results={"reason": "x"}, seeds={"numbers": (1, 2.5)})
    line = json.loads(ledger.path.read_text())
    assert set(line) == DESIGN_KEYS
    assert line["target"] is None
    [read] = Ledger(ledger.path).records()
    assert read == written
    assert read.seeds == {"numbers": [1, 2.5]} and read.results.reason == "x"


def test_records_are_chained(ledger: Ledger) -> None:
    first, second = note(ledger), note(ledger, target="rms_norm")
    assert first.prev is None
    assert second.prev == first.id
    assert ledger.problems() == []


def test_a_record_that_was_changed_or_follows_a_gap_is_not_found(ledger: Ledger) -> None:
    for target in ("one", "two", "three", "four"):
        verified(ledger, target=target)
    first, _, *rest = ledger.path.read_text().splitlines(keepends=True)
    ledger.path.write_text(first.replace("PASS", "FAIL") + "".join(rest))
    assert [record.target for record in ledger.records()] == ["one", "three", "four"]
    assert [record.target for record in ledger.find()] == ["four"]
    excerpt = Ledger(ledger.path, excerpt=True)  # has gaps, and no chain of its own
    assert [record.target for record in excerpt.find()] == ["three", "four"]


def test_a_changed_record_is_noticed(ledger: Ledger) -> None:
    verified(ledger, verdict="FAIL")
    note(ledger)
    ledger.path.write_text(ledger.path.read_text().replace('"FAIL"', '"PASS"'))
    assert ledger.problems() == ["record 1 (verify) was changed after it was written"]


def test_a_record_taken_out_is_noticed(ledger: Ledger) -> None:
    for _ in range(3):
        note(ledger)
    lines = ledger.path.read_text().splitlines(keepends=True)
    ledger.path.write_text(lines[0] + lines[2])
    assert ledger.problems() == ["record 2 (note) does not follow the record before it"]


def test_a_torn_last_line_is_set_aside(ledger: Ledger) -> None:
    first = note(ledger)
    with open(ledger.path, "ab") as file:
        file.write(b'{"schema": 1, "kind": "ver')
    assert ledger.records() == [first]
    second = note(ledger)
    assert ledger.records() == [first, second]
    assert ledger.problems() == []
    assert ledger.path.with_name("ledger.jsonl.torn").read_bytes() == b'{"schema": 1, "kind": "ver\n'


def test_a_corrupt_line_in_the_middle_is_refused_and_nothing_is_lost(ledger: Ledger) -> None:
    note(ledger)
    with open(ledger.path, "ab") as file:
        file.write(b"not json\n")
    before = ledger.path.read_bytes()
    with pytest.raises(LedgerCorrupt, match="line 2"):
        ledger.records()
    with pytest.raises(LedgerCorrupt, match="line 2"):
        note(ledger)
    assert ledger.path.read_bytes() == before


def test_verdict_must_fit_the_kind(ledger: Ledger) -> None:
    with pytest.raises(ValidationError, match="'FASTER', 'SLOWER', 'SAME' or 'AMBIGUOUS'"):
        ledger.append("bench", verdict="PASS", target="rope", kernel={"name": "k", "sha256": "a" * 64})
    with pytest.raises(ValidationError, match="(?s)verdict.*should be None"):
        note(ledger, verdict="PASS")
    assert ledger.records() == []


def test_not_a_number_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="finite number"):
        verified(ledger, results={"error_ratio": float("nan")})
    assert ledger.records() == []


def test_find_looks_inside_device_software_and_kernel(ledger: Ledger) -> None:
    wanted = {"device": {"key": "d1"}, "software": {"key": "s1"}, "kernel": {"name": "k", "sha256": "a" * 64}}
    hit = verified(ledger, **wanted)
    verified(ledger, **{**wanted, "device": {"key": "d2"}})
    found = ledger.find(kind="verify", device_key="d1", software_key="s1", kernel_sha256="a" * 64)
    assert found == [hit]
    assert ledger.latest(device_key="d3") is None
    assert ledger.get(hit.id[:10]) == hit


def test_unwritable_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot write"):
        note(Ledger(tmp_path / "file" / "ledger.jsonl"))


def _append_many(path: Path) -> None:
    for _ in range(5):
        note(Ledger(path))


def test_concurrent_writers_keep_one_chain(ledger: Ledger) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_many, args=(ledger.path,)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(ledger.records()) == 15
    assert ledger.problems() == []


def test_a_folder_in_the_ledgers_place_is_named(ledger: Ledger) -> None:
    ledger.path.mkdir(parents=True)
    for use in (ledger.records, ledger.check):
        with pytest.raises(LabError, match=f"cannot read {ledger.path}: Is a directory"):
            use()
    with pytest.raises(LabError, match=str(ledger.path)):
        note(ledger)


def test_a_ledger_that_may_not_be_read_or_written_is_named(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    note(ledger)

    def refuse(path: object, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(LabError, match=f"cannot read {ledger.path}: Permission denied"):
            Ledger(ledger.path).records()
    monkeypatch.setattr("builtins.open", refuse)
    for use in (ledger.check, lambda: note(ledger)):
        with pytest.raises(LabError, match=f"cannot append to {ledger.path}: Permission denied"):
            use()


def test_a_lock_that_cannot_be_taken_is_named(ledger: Ledger) -> None:
    lock = ledger.path.with_name(ledger.path.name + ".lock")
    lock.mkdir(parents=True)
    for use in (ledger.check, lambda: note(ledger)):
        with pytest.raises(LabError, match=f"cannot append to {ledger.path}.*{lock.name}"):
            use()


def test_checking_finds_what_would_stop_an_append_and_leaves_nothing(ledger: Ledger) -> None:
    ledger.check()
    assert not ledger.path.parent.exists()
    note(ledger)
    before = {path: path.read_bytes() for path in ledger.path.parent.iterdir()}
    ledger.check()
    assert {path: path.read_bytes() for path in ledger.path.parent.iterdir()} == before
    ledger.path.write_text("damaged\n" + ledger.path.read_text())
    with pytest.raises(LedgerCorrupt):
        ledger.check()


def test_checking_notices_a_file_in_the_folders_place(ledger: Ledger) -> None:
    ledger.path.parent.touch()
    with pytest.raises(LabError, match=f"cannot write to {ledger.path.parent}"):
        ledger.check()
