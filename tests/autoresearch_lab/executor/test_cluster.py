"""Work shared out to machines: only to those of the same kind, nothing lost with a worker, one chain in the end."""

from __future__ import annotations

import re
from typing import Any

import pytest

from autoresearch_common.hashing import file_sha256
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.results.record import BenchRecord


def kinds(lab: Any) -> list[str]:
    return [record.kind for record in lab.ledger.records()]


def test_steps_go_to_all_machines_and_come_back_into_one_chain(lab: Any) -> None:
    final = lab.drive("one", "two")
    assert {state.step for state in final.values()} == {"ab", None}
    assert lab.steps_taken[:2] == ["verify on a: rms_norm=workspace:one", "verify on b: rms_norm=workspace:two"]
    assert lab.machines.most_at_once == 2 and lab.machines.closed
    assert sorted(kinds(lab)) == ["bench", "bench", "note", "note", "verify", "verify"]
    assert lab.ledger.problems() == []
    assert lab.said == ["ray: 2 of 2 nodes work: a, b"]


def test_a_record_says_where_it_was_made_and_names_what_it_rests_on_here(lab: Any) -> None:
    lab.drive("one")
    verified, note, benched = lab.ledger.records()
    assert benched.settings.executor.name == "ray" and benched.settings.executor.node == "a"
    assert benched.settings.verify == verified.id and benched.settings.ceilings == note.id
    assert verified.settings.workspace == "workspaces/one"
    (artifact,) = benched.artifacts
    path = lab.root.path / artifact.path
    assert path.read_bytes() == b"samples of workspace:one" and file_sha256(path) == artifact.sha256
    assert lab.candidate("one").subject.latest(lab.ledger, BenchRecord) == benched


def test_the_ceilings_that_the_driver_knows_are_not_measured_again(lab: Any) -> None:
    known = lab.ledger.append("note", **lab.context.fields(), settings={"event": "ceilings"}, results={})
    lab.drive("one")
    assert kinds(lab) == ["note", "verify", "bench"]
    assert lab.ledger.records()[-1].settings.ceilings == known.id


def test_a_second_run_repeats_nothing_and_does_not_join_the_cluster(lab: Any) -> None:
    first = lab.drive("one", "two")
    before = list(lab.machines.runs)
    lab.machines.closed = False
    assert lab.drive("one", "two") == first
    assert lab.machines.runs == before and not lab.machines.closed


def test_a_kernel_that_fails_is_not_timed(lab: Any) -> None:
    lab.verdicts["workspace:one"] = "FAIL"
    assert lab.drive("one")["rms_norm=workspace:one"].reason == "verify: FAIL"
    assert kinds(lab) == ["verify"]


def test_what_is_lost_with_a_worker_is_tried_again_there(lab: Any) -> None:
    lab.machines.names, lab.machines.deaths["a"] = ("a",), 1
    lab.drive("one")
    assert [step for _, step, _ in lab.machines.runs] == ["verify", "verify", "bench"]
    assert kinds(lab) == ["verify", "note", "bench"]
    assert "was lost with the verify of rms_norm=workspace:one (it was killed); it will be tried again" in lab.said[1]


def test_what_is_lost_with_a_node_is_tried_elsewhere(lab: Any) -> None:
    lab.machines.deaths["a"], lab.machines.gone = 1, {"a"}
    lab.drive("one", "two")
    assert [node for node, _, _ in lab.machines.runs].count("a") == 1
    assert sorted(kinds(lab)) == ["bench", "bench", "note", "verify", "verify"]


def test_a_step_that_is_lost_twice_is_left_for_the_next_run(lab: Any) -> None:
    lab.machines.deaths.update(a=1, b=1)
    lab.machines.gone = {"a", "b"}
    lab.machines.names = ("a", "b", "c")
    final = lab.drive("one")
    assert final["rms_norm=workspace:one"].step == "verify"
    assert kinds(lab) == [] and lab.said[-1].endswith("it is left for the next run")
    lab.drive("one")
    assert kinds(lab) == ["verify", "note", "bench"]


def test_without_workers_it_ends_and_the_next_run_continues(lab: Any) -> None:
    lab.machines.names, lab.machines.gone = ("a",), {"a"}
    lab.drive("zero")
    lab.machines.deaths["a"] = 1
    with pytest.raises(LabFailure, match="all workers were lost"):
        lab.drive("one", "two")
    assert kinds(lab) == ["verify", "note", "bench"] and lab.machines.closed
    lab.machines.names = ("b",)
    lab.drive("one", "two")
    assert kinds(lab).count("bench") == 3 and lab.ledger.problems() == []


def test_an_interrupted_run_leaves_whole_records_only(lab: Any) -> None:
    lab.machines.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        lab.drive("one")
    assert kinds(lab) == [] and lab.machines.closed
    lab.machines.interrupt = False
    lab.drive("one")
    assert kinds(lab) == ["verify", "note", "bench"]


@pytest.mark.parametrize("verdict", ["impossible", "bug"])
def test_a_step_that_cannot_be_done_leaves_the_others_alone(lab: Any, verdict: str) -> None:
    lab.verdicts["workspace:one"] = verdict
    final = lab.drive("one", "two", "three")
    assert re.match("bench failed: (impossible|a bug)", final["rms_norm=workspace:one"].reason)
    benched = [record.kernel.name for record in lab.ledger.find(kind="bench")]
    assert sorted(benched) == ["workspace:three", "workspace:two"]
    assert lab.ledger.problems() == [] and lab.machines.closed
    lab.verdicts.clear()
    assert lab.drive("one")["rms_norm=workspace:one"].step == "ab"


def test_a_ledger_that_cannot_be_read_any_more_ends_the_run(lab: Any) -> None:
    lab.machines.spoil = lambda reply: lab.root.ledger.write_text("{\n")
    with pytest.raises(LabError, match="cannot be read"):
        lab.drive("one", "two")
    assert lab.machines.closed


def test_a_machine_of_another_kind_gets_no_work(lab: Any) -> None:
    lab.machines.hello["a"] = {"device": {"key": "other"}}
    lab.drive("one", "two")
    assert {node for node, _, _ in lab.machines.runs} == {"b"}
    assert "ray: node a is left aside: it is another device (other, here device)" in lab.said


@pytest.mark.parametrize(
    ("hello", "line"),
    [
        ({"device": {"key": "other"}}, "a: it is another device (other, here device)"),
        ({"software": {"key": "other", "torch": "9"}}, "a: its software is another one (torch 9, here None)"),
        ({"error": "no module torch"}, "a: no module torch"),
    ],
)
def test_where_no_node_may_work_one_line_says_why(lab: Any, hello: dict[str, Any], line: str) -> None:
    lab.machines.names, lab.machines.hello["a"] = ("a", "head"), hello
    with pytest.raises(LabError) as refused:
        lab.drive("one")
    assert line in str(refused.value) and "head: it offers no processors" in str(refused.value)
    assert lab.machines.runs == [] and lab.machines.closed


def test_a_node_with_other_code_gets_no_work(lab: Any) -> None:
    lab.machines.manifest = {"autoresearch_lab/machine.py": "0" * 64}
    with pytest.raises(LabError, match="code is not the same: autoresearch_lab/machine.py is another one there"):
        lab.drive("one")


def test_two_nodes_on_one_machine_are_one_place_to_work(lab: Any) -> None:
    lab.machines.hello.update(a={"machine": "m"}, b={"machine": "m"})
    lab.drive("one", "two")
    assert {node for node, _, _ in lab.machines.runs} == {"a"}
    assert any("node b is left aside: it is on the same machine as a" in line for line in lab.said)
