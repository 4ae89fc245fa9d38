"""The ledger keeps what was written, in order, through torn lines, tampering and concurrent writers."""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout
from pydantic import ValidationError

from autoresearch_lab.errors import LabError
from autoresearch_lab.ledger import Ledger, LedgerCorrupt
from autoresearch_lab.results import lines
from autoresearch_lab.results.record import AbRecord, BenchRecord, Record, VerifyRecord

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


@pytest.fixture(params=["in memory", "kept"])
def ledger(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """With either kind of index."""
    if request.param == "kept":
        monkeypatch.setattr("autoresearch_lab.ledger_index.LEAST_KEPT_BYTES", 1)
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


def test_a_verdict_of_another_kind_is_a_changed_record_too(ledger: Ledger) -> None:
    verified(ledger)
    note(ledger)
    ledger.path.write_text(ledger.path.read_text().replace('"PASS"', '"PROMOTE"').replace('"schema":2', '"schema":9'))
    assert [(record.kind, record.fault) for record in ledger.records()] == [
        (kind, "was changed after it was written") for kind in ("verify", "note")
    ]
    assert ledger.find() == [] and len(ledger.problems()) == 2 and note(ledger).prev is not None


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


def test_a_whole_last_line_without_its_end_is_a_record(ledger: Ledger) -> None:
    written = [note(ledger), note(ledger)]
    ledger.path.write_bytes(ledger.path.read_bytes()[:-1])
    assert Ledger(ledger.path).records() == written
    written.append(note(ledger))
    assert ledger.records() == Ledger(ledger.path).records() == written and ledger.problems() == []
    assert not ledger.path.with_name("ledger.jsonl.torn").exists()


def test_blank_lines_are_no_records(ledger: Ledger) -> None:
    written = [note(ledger), note(ledger)]
    ledger.path.write_text("\n" + ledger.path.read_text().replace("\n", "\n \n"))
    assert ledger.records() == written
    assert [*written, note(ledger)] == ledger.records() and ledger.problems() == []


@pytest.mark.parametrize("again", [False, True])
def test_records_that_are_gone_from_the_end_are_missed(ledger: Ledger, again: bool) -> None:
    written = [note(ledger) for _ in range(4)]
    ledger.path.write_text("".join(ledger.path.read_text().splitlines(keepends=True)[:1]))
    reader = Ledger(ledger.path) if again else ledger
    assert reader.records() == written[:1]
    assert reader.problems() == ["the newest 3 of 4 records are gone (ledger.jsonl.head counted them)"]
    note(reader)  # the next append does not hide it
    assert reader.problems() == ["the newest 3 of 4 records are gone (ledger.jsonl.head counted them)"]


def test_an_older_copy_that_went_on_is_noticed(ledger: Ledger) -> None:
    note(ledger)
    copied = ledger.path.read_text()
    note(ledger)
    ledger.path.write_text(copied)
    other = ledger.path.with_name("other.jsonl")
    other.write_text(copied)
    note(Ledger(other), target="elsewhere")
    ledger.path.write_text(other.read_text())
    assert ledger.problems() == ["record 2 is another than was written here (ledger.jsonl.head names it)"]


GAP = "does not follow the record before it"


@pytest.mark.parametrize(
    ("together", "said"),
    [
        ("own's other's", [f"record 3 (note) {GAP}"]),
        ("other's own's", [f"record 2 (note) {GAP}"]),
        ("own's own's", [f"record 3 (note) {GAP}"]),
        ("other's", ["the newest 1 of 2 records are gone (ledger.jsonl.head counted them)"]),
        (
            "other's other's",
            [f"record 2 (note) {GAP}", "record 2 is another than was written here (ledger.jsonl.head names it)"],
        ),
        ("", ["the newest 2 of 2 records are gone (ledger.jsonl.head counted them)"]),
    ],
)
def test_two_ledgers_put_together_are_noticed(ledger: Ledger, tmp_path: Path, together: str, said: list[str]) -> None:
    other = Ledger(tmp_path / "other.jsonl")
    for each in (ledger, ledger, other):
        note(each)
    texts = {"own's": ledger.path.read_text(), "other's": other.path.read_text()}
    ledger.path.write_text("".join(texts.get(word, "") for word in together.split()))
    for reader in (ledger, Ledger(ledger.path)):
        assert reader.problems() == said


def test_a_writer_by_a_link_takes_the_same_lock_and_chain(ledger: Ledger, tmp_path: Path) -> None:
    note(ledger)
    link = tmp_path / "link.jsonl"
    link.symlink_to(ledger.path)
    again = tmp_path / "again.jsonl"
    again.symlink_to(link)
    note(Ledger(again))
    assert Ledger(again)._lock == ledger._lock and len(ledger.records()) == 2 and ledger.problems() == []


def _dangling(path: Path) -> None:
    path.symlink_to(path.with_name("missing"))


def _loop(path: Path) -> None:
    path.symlink_to(path.with_name("other"))
    path.with_name("other").symlink_to(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/null")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [_dangling, _loop, _device, _pipe])
def test_what_is_no_file_is_no_empty_ledger(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "ledger.jsonl")
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for use in (ledger.records, ledger.problems, lambda: note(ledger)):
        with pytest.raises(LabError, match="ledger: .*(leads nowhere|no regular file)"):
            use()


def test_what_is_appended_by_others_is_found(ledger: Ledger) -> None:
    reader = Ledger(ledger.path)
    for number in range(3):
        written = verified(ledger, target=f"t{number}")
        assert reader.latest(kind="verify") == written == reader.get(written.id[:8])
        assert reader.count() == number + 1 and reader.newest_id() == written.id


def test_the_newest_come_first_and_only_what_is_asked_for_is_read(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(250):
        ledger.append("note", settings=SETTINGS, results={"reason": str(number)})
    read = []
    monkeypatch.setattr("autoresearch_lab.ledger.read", lambda line: read.append(line) or lines.read(line))
    newest = ledger.newest(kind="note")
    assert [next(newest).results.reason for _ in range(2)] == ["249", "248"] and len(read) == 2
    note(ledger)  # meanwhile
    assert [record.results.reason for record in newest] == [str(number) for number in range(247, -1, -1)]


def test_an_index_that_is_damaged_or_foreign_is_made_again(ledger: Ledger) -> None:
    written = [note(ledger) for _ in range(3)]
    index = ledger.path.with_name("ledger.jsonl.index")
    for content in (b"", b"no database", b"SQLite format 3\0" + bytes(200)):
        index.write_bytes(content)
        reader = Ledger(ledger.path)
        assert reader.records() == written and reader.problems() == []


def test_where_the_index_cannot_be_a_file_it_is_none(ledger: Ledger) -> None:
    written = [note(ledger) for _ in range(3)]
    index = ledger.path.with_name("ledger.jsonl.index")
    index.unlink(missing_ok=True)
    index.mkdir()
    reader = Ledger(ledger.path)
    assert reader.records() == reader.records() == written
    assert [*written, note(reader)] == reader.records() and reader.problems() == []


def test_a_line_changed_in_place_is_found_out_when_it_is_read(ledger: Ledger) -> None:
    verified(ledger, target="aaaa")
    verified(ledger, target="bbbb")
    status = ledger.path.stat()
    ledger.path.write_text(ledger.path.read_text().replace('"aaaa"', '"cccc"'))
    os.utime(ledger.path, ns=(status.st_atime_ns, status.st_mtime_ns))  # the index believes to be up to date
    assert ledger.latest(target="aaaa") is None and ledger.latest(target="cccc") is None
    ledger.read_again()
    assert ledger.problems() == ["record 1 (verify) was changed after it was written"]


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
        patch.setattr("builtins.open", refuse)
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


def merged(ledger: Ledger, *others: Ledger) -> list[int]:
    """How many records were taken over from each."""
    notes = ledger.merge(others, lambda stage, done, size: None)
    return [note.results.records if note else 0 for note in notes]


@pytest.fixture
def other(tmp_path: Path) -> Ledger:
    """Another machine's, with three records."""
    made = Ledger(tmp_path / "elsewhere" / "ledger.jsonl")
    for number in range(3):
        verified(made, target=f"t{number}", device={"key": "elsewhere"})
    return made


def test_a_merged_ledger_has_the_others_lines_as_they_were_and_one_chain(ledger: Ledger, other: Ledger) -> None:
    own = [note(ledger), verified(ledger)]
    assert merged(ledger, other) == [3]
    told, *taken = ledger.records()[2:]
    assert told.settings.source == str(other.path) and told.results.last == taken[-1].id
    assert taken == other.records() and other.path.read_bytes() in ledger.path.read_bytes()
    after = note(ledger)
    assert after.prev == taken[-1].id and ledger.problems() == []
    assert Ledger(ledger.path).find() == [*own, told, *taken, after] and Ledger(ledger.path).problems() == []
    ledger.read_again()
    assert ledger.problems() == []


def test_merging_twice_adds_nothing_and_later_what_is_new(ledger: Ledger, other: Ledger) -> None:
    assert merged(ledger, other, other) == [3, 0]
    before = ledger.path.read_bytes()
    assert merged(ledger, other) == [0] and ledger.path.read_bytes() == before
    verified(other)
    assert merged(ledger, other) == [1] and ledger.problems() == []


def test_ledgers_merged_into_each_other_hold_the_same_evidence(ledger: Ledger, other: Ledger) -> None:
    verified(ledger, target="own")
    assert merged(ledger, other) == [3]
    verified(ledger, target="later")
    assert merged(other, ledger) == [3]  # two, and the note
    whole = [each.path.read_bytes() for each in (ledger, other)]
    assert merged(ledger, other) == merged(other, ledger) == [0]  # a note alone is nothing new
    assert [each.path.read_bytes() for each in (ledger, other)] == whole
    verified(other, target="last")
    assert merged(ledger, other) == [2] and merged(other, ledger) == [0]  # the note comes along
    for each in (ledger, other, Ledger(other.path)):
        assert each.problems() == []
        assert {record.target for record in each.find(kind="verify")} == {"t0", "t1", "t2", "own", "later", "last"}


def test_copies_that_went_on_apart_are_merged(ledger: Ledger, tmp_path: Path) -> None:
    note(ledger)
    copy = Ledger(tmp_path / "copy.jsonl")
    copy.path.write_bytes(ledger.path.read_bytes())
    for each in (ledger, copy):
        note(each, target=each.path.name)
    assert merged(ledger, copy) == [1] and ledger.problems() == [] and ledger.count() == 4


def test_what_is_changed_taken_out_or_doubled_among_merged_records_is_noticed(ledger: Ledger, other: Ledger) -> None:
    note(ledger)
    merged(ledger, other)
    note(ledger)
    lines = ledger.path.read_text().splitlines(keepends=True)
    gap = "does not follow the record before it"
    for number, (left, said) in enumerate([
        ([*lines[:2], *lines[3:]], f"record 3 (verify) {gap}"),
        ([*lines[:4], *lines[5:]], f"record 5 (note) {gap}"),
        ([*lines[:1], *lines[2:]], f"record 2 (verify) {gap}"),
        ([*lines[:3], lines[2], *lines[3:]], f"record 4 (verify) {gap}"),
        (
            [*lines[:3], lines[3].replace("PASS", "FAIL"), *lines[4:]],
            "record 4 (verify) was changed after it was written",
        ),
    ]):  # fmt: skip
        path = ledger.path.with_name(f"{number}.jsonl")
        path.write_text("".join(left))
        assert said in Ledger(path).problems()


@pytest.mark.parametrize("spoil", ["changed", "gone", "unreadable", "missing", "itself"])
def test_a_damaged_source_is_refused_and_nothing_is_written(
    ledger: Ledger, other: Ledger, tmp_path: Path, spoil: str
) -> None:
    note(ledger)
    whole = Ledger(tmp_path / "whole.jsonl")
    note(whole)
    text = other.path.read_text()
    spoilt = {
        "changed": text.replace("PASS", "FAIL", 1),
        "gone": "".join(text.splitlines(keepends=True)[:2]),
        "unreadable": text + "{}\n",
    }
    if spoil == "missing":
        other = Ledger(tmp_path / "nowhere.jsonl")
    elif spoil == "itself":
        other = Ledger(ledger.path)
    else:
        other.path.write_text(spoilt[spoil])
    before = {path: path.read_bytes() for path in ledger.path.parent.iterdir()}
    with pytest.raises(LabError, match="ledger: "):
        merged(ledger, whole, other)
    after = {path: path.read_bytes() for path in ledger.path.parent.iterdir()}
    assert all(after[path] == content for path, content in before.items() if path.suffix != ".index")


def test_a_merge_that_the_disk_refuses_leaves_what_was_there(
    ledger: Ledger, other: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(ledger)
    before = ledger.path.read_bytes()

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(LabError, match="No space left"):
            merged(ledger, other)
    assert ledger.path.read_bytes() == before
    assert merged(ledger, other) == [3] and ledger.problems() == []


@pytest.mark.parametrize("whole", [1, 2, 4])
def test_a_merge_that_was_killed_is_undone_by_the_next_append(ledger: Ledger, other: Ledger, whole: int) -> None:
    first = note(ledger)
    head = ledger.path.with_name("ledger.jsonl.head").read_bytes()
    merged(ledger, other)
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    ledger.path.with_name("ledger.jsonl.head").write_bytes(head)  # is written at the end
    ledger.path.write_bytes(b"".join(lines[:whole]) + lines[whole][:100])
    again = Ledger(ledger.path)
    assert again.problems() == [] and again.count() == whole
    second = note(again)
    assert again.records() == [first, second] and again.problems() == []
    assert merged(again, other) == [3] and again.problems() == []


def test_merged_records_that_are_gone_from_the_end_are_missed(ledger: Ledger, other: Ledger) -> None:
    note(ledger)
    merged(ledger, other)
    ledger.path.write_text("".join(ledger.path.read_text().splitlines(keepends=True)[:3]))
    for _ in range(2):
        assert ledger.problems() == ["the newest 2 of 5 records are gone (ledger.jsonl.head counted them)"]
        note(ledger)


def test_what_the_index_knows_of_kernels_files_and_kinds(ledger: Ledger) -> None:
    file = {"path": "a.json", "sha256": "b" * 64}
    verified(ledger, artifacts=[file], device={"key": "d"})
    verified(ledger, target="mlp", kernel={"name": "new", "sha256": "c" * 64}, artifacts=[file])
    verified(ledger)
    note(ledger)
    assert ledger.kernels(VerifyRecord) == [("rope", "k"), ("mlp", "new")]
    assert ledger.kernels(VerifyRecord, device_key="d") == [("rope", "k")] and ledger.kernels(BenchRecord) == []
    assert [*ledger.files()] == [("a.json", "b" * 64, ""), ("a.json", "b" * 64, "d")]
    assert ledger.counts() == {"note": 1, "verify": 3}
    verified(Ledger(ledger.path))
    assert ledger.counts()["verify"] == 4 and ledger.kernels(VerifyRecord)[0] == ("rope", "k")


def test_one_of_several_contents_is_found(ledger: Ledger) -> None:
    for digit in "abc":
        verified(ledger, kernel={"name": digit, "sha256": digit * 64})
    found = ledger.find(VerifyRecord, target="rope", kernel_sha256=frozenset({"a" * 64, "c" * 64}))
    assert [record.kernel.name for record in found] == ["a", "c"]
    assert ledger.find(kernel_sha256=frozenset()) == [] == ledger.find(kernel_sha256="a" * 63 + "b")
    # None among them is a record that names none.
    of_a_set = verified(ledger, workloads={"sha256": "1" * 64})
    assert [r.id for r in ledger.find(VerifyRecord, workloads_sha256=frozenset({"1" * 64}))] == [of_a_set.id]
    assert len(ledger.find(VerifyRecord, workloads_sha256=frozenset({"2" * 64, None}))) == 3
    assert len(ledger.find(VerifyRecord, workloads_sha256=frozenset({"1" * 64, None}))) == 4


def test_an_ab_is_found_by_what_its_arms_trained_with(ledger: Ledger) -> None:
    for old, new in (("a", "b"), ("b", "c")):
        kernels = {name: {"rope": {"name": "k", "sha256": digit * 64}} for name, digit in (("c", new), ("b", old))}
        ledger.append(
            "ab", verdict="REJECT", settings={"preset": "p", "candidate": kernels["c"], "baseline": kernels["b"]}
        )
    first, second = ledger.records()
    for digit, expected in (("a", [first]), ("b", [first, second]), ("c", [second]), ("d", [])):
        assert ledger.find(AbRecord, arm={"rope": digit * 64}) == expected


def capture(ledger: Ledger, preset: str, *targets: str) -> Record:
    sets = {target: {"sha256": "1" * 64, "path": "x"} for target in targets}
    return ledger.append(
        "capture", engine="cpu", device={"key": "d"}, settings={"event": "workloads", "preset": preset},
        workloads=sets, results={"workloads": {}},
    )  # fmt: skip


def test_of_captured_calls_the_newest_of_each_preset_and_target_are_read(ledger: Ledger) -> None:
    capture(ledger, "small", "rope", "mlp")
    kept = [capture(ledger, "nano", "rope", "mlp"), capture(ledger, "small", "mlp"), capture(ledger, "small", "rope")]
    assert ledger.captured("cpu", "d") == kept and ledger.captured("cpu", "e") == []
    text, status = ledger.path.read_text(), ledger.path.stat()
    last = text.splitlines(keepends=True)[-1]
    ledger.path.write_text(text.replace(last, last.replace('"rope"', '"ropy"')))
    os.utime(ledger.path, ns=(status.st_atime_ns, status.st_mtime_ns))  # the index believes to be up to date
    assert [record.id for record in ledger.captured("cpu", "d")] == [record.id for record in ledger.records()[:3]]


def test_who_is_in_a_hurry_reads_a_large_ledger_by_its_index_or_not_at_all(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = [note(ledger) for _ in range(3)]
    monkeypatch.setattr("autoresearch_lab.ledger_index.HURRIED_BYTES", 100)
    hurried = Ledger(ledger.path, hurried=True)
    if not ledger.path.with_name("ledger.jsonl.index").exists():
        with pytest.raises(LabError, match="no index of what is in it"):
            hurried.records()
    else:
        assert hurried.records() == written


def test_who_is_in_a_hurry_does_not_wait_for_the_index(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    note(ledger)
    index = ledger.path.with_name("ledger.jsonl.index")
    if not index.exists():
        return
    other = sqlite3.connect(index, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    assert len(Ledger(ledger.path, hurried=True).records()) == 1  # in memory
    assert time.monotonic() - began < 10
    other.close()


def test_an_index_of_another_version_is_made_again(ledger: Ledger) -> None:
    written = [note(ledger), note(ledger)]
    index = ledger.path.with_name("ledger.jsonl.index")
    index.unlink(missing_ok=True)
    other = sqlite3.connect(index)
    other.executescript("CREATE TABLE lines (number INTEGER, start INTEGER); PRAGMA user_version = 7;")
    other.close()
    assert Ledger(ledger.path).records() == written


def test_who_has_just_written_lets_others_come_first(ledger: Ledger) -> None:
    note(ledger, target="before")
    waiting = threading.Thread(target=lambda: note(Ledger(ledger.path), target="who waited"))
    with ledger._turn():
        waiting.start()
        while not _held(ledger._gate):
            time.sleep(0.001)
    note(ledger, target="who wrote")
    waiting.join()
    assert [record.target for record in ledger.records()] == ["before", "who waited", "who wrote"]


def _held(path: Path) -> bool:
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def test_a_ledger_that_is_deleted_meanwhile_is_not_begun_anew(ledger: Ledger):
    note(ledger)
    ledger.path.unlink()
    with pytest.raises(LabError, match=f"ledger: {ledger.path} was deleted while the lab worked"):
        note(ledger)
    assert not ledger.path.exists()
    note(Ledger(ledger.path))  # whoever comes new begins one
