"""The course of an A/B with an engine that plays it: verdicts, early ends, what is repeated and what is not."""

import re
import shutil
from collections import Counter

import pytest
from rich.console import Console

from autoresearch_lab.ab.run import check_new
from autoresearch_lab.ab.settings import Settings
from autoresearch_lab.ab.suite import suite_verdict
from autoresearch_lab.ab.table import render
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.sandbox.parent import JobFailed

CRASH = JobFailed("crash", "train: ended by SIGSEGV")
TIMED = [
    {"role": "library", "name": "baseline", "compiled": True, "ms": 9e-5},
    {"role": "graph", "name": "candidate", "compiled": True, "ms": 5e-5},
]


def jobs(lab):
    return Counter(job for job, _ in lab.engine.asked)


def trained(lab):
    """Ids of all trainings that were executed."""
    return [run["id"] for job, args in lab.engine.asked if job == "train" for run in args["runs"]]


def test_a_clear_winner_is_promoted_with_all_gates(lab):
    lab.evidence()
    record = lab.ab(gain=0.5)
    assert record.verdict == "PROMOTE" and record.target == lab.target.name
    assert record.kernel.sha256 == lab.kernel.sha256 and record.workloads.sha256 == "a" * 64
    found = record.results
    assert set(found.gates) == {"environment", "speed", "gain", "in_place", "divergence", "neutral", "benefit"}
    assert all(gate.passed is True for gate in found.gates.values())
    assert found.look == 1 and len(found.process_ratios) == 4
    assert found.ratio_lower < 1.5 < found.ratio_upper and found.ratio == pytest.approx(1.5, rel=0.01)
    assert found.equal_time_steps == int(100 * found.ratio_lower)
    assert found.val_bpb["candidate_equal_time"] < found.val_bpb["baseline"]
    assert len(found.neutral) == 4 and len(found.benefit) == 2  # a clear winner: two seeds at equal time
    assert len(found.losses["baseline"]) == 100 and len(found.losses["control"]) == 20
    assert jobs(lab) == {"throughput": 4, "check": 1, "train": 2, "evaluate": 1}
    assert found.peak_memory_mb == {"baseline": 400.0, "candidate": 300.0}
    assert lab.ledger.problems() == [] and not list(lab.root.results.glob("cache/ab/*.safetensors"))


def test_a_null_is_rejected_without_any_training(lab):
    lab.evidence()
    record = lab.ab(gain=0.0)
    assert record.verdict == "REJECT" and "no gain in the trainer" in record.results.reason
    assert set(jobs(lab)) == {"throughput"} and jobs(lab)["throughput"] <= 4


def test_a_slow_candidate_ends_after_two_races(lab):
    lab.evidence()
    assert lab.ab(gain=-0.2).verdict == "REJECT"
    assert jobs(lab) == {"throughput": 2}


def test_noise_gets_a_second_look_and_stays_undecided(lab):
    lab.evidence()
    record = lab.ab(gain=0.08, noise=0.3)
    assert record.verdict == "UNDECIDED" and record.results.look == 2 and jobs(lab)["throughput"] == 6


def test_harm_is_rejected(lab):
    lab.evidence()
    record = lab.ab(gain=0.5, harm=0.05)
    assert record.verdict == "REJECT" and record.results.gates["neutral"].passed is False


def test_harm_near_the_margin_gets_a_second_look(lab):
    lab.evidence()
    record = lab.ab(gain=0.5, harm=0.0025)
    assert record.verdict == "UNDECIDED" and record.results.look == 2
    assert len(record.results.neutral) == 6 and len(record.results.benefit) == 6


def test_early_divergence_is_rejected(lab):
    lab.evidence()
    record = lab.ab(gain=0.5, early=30.0)
    assert record.verdict == "REJECT" and record.results.reason.startswith("divergence")


def test_what_the_baselines_own_rounding_makes_is_not_held_against_a_kernel(lab):
    lab.evidence()
    record = lab.ab(gain=0.5, early=30.0, rounding=25.0)
    gate = record.results.gates["divergence"]
    assert record.verdict == "PROMOTE" and gate.ratio == pytest.approx(30 / 12.5) and len(gate.rounding) == 20
    asked = [args for job, args in lab.engine.asked if job == "train" and args["widened"]]
    assert [args["widened"] for args in asked] == [[lab.target.name]] and asked[0]["selection"] == lab.baseline.plain()
    assert {run["stop"] for run in asked[0]["runs"]} == {20} and not any(run["save"] for run in asked[0]["runs"])


def test_more_than_twice_the_baselines_own_rounding_is_refused(lab):
    lab.evidence()
    record = lab.ab(gain=0.5, early=30.0, rounding=10.0)
    assert record.verdict == "REJECT" and record.results.gates["divergence"].ratio == pytest.approx(6.0)


def test_the_baseline_in_float32_is_trained_only_where_one_unit_does_not_explain_it(lab):
    lab.evidence()
    lab.ab(gain=0.5, early=3.0, rounding=25.0)
    assert not any(args["widened"] for job, args in lab.engine.asked if job == "train")


def test_less_than_half_of_the_predicted_gain_is_refused(lab):
    lab.evidence(predicted={"saved_ms": 5.0, "step_ms": 10.0})
    record = lab.ab(gain=0.1)
    assert record.verdict == "REJECT" and "under half of the predicted" in record.results.reason
    gain = record.results.gates["gain"]
    assert gain.predicted == pytest.approx(1.0) and gain.realised == pytest.approx(0.1, abs=0.01)
    assert "train" not in jobs(lab)


@pytest.mark.parametrize("where", ["changes", "training_changes"])
def test_a_changed_environment_is_rejected(lab, where):
    lab.evidence()
    record = lab.ab(gain=0.5, **{where: ["threads: 2 -> 1"]})
    assert record.verdict == "REJECT" and "threads: 2 -> 1" in record.results.reason


def test_foreign_load_leaves_it_undecided_and_does_not_count_as_an_attempt(lab):
    lab.evidence()
    record = lab.ab(gain=-0.3, foreign=0.7)
    assert record.verdict == "UNDECIDED" and "70%" in record.results.reason and record.results.disturbed
    again = lab.ab(gain=0.5)
    assert again.verdict == "PROMOTE" and again.results.attempt == 1


def test_a_candidate_that_fails_in_the_trainer_is_rejected(lab):
    lab.evidence()
    assert "no such shape" in lab.ab(gain=0.5, failed="RuntimeError: no such shape").results.reason
    lab.engine.asked.clear()
    record = lab.ab(gain=0.5, raises={"throughput": CRASH})
    assert record.verdict == "REJECT" and "SIGSEGV" in record.results.reason
    assert lab.ab(gain=0.5, nan=True).results.reason.startswith("neutral: training failed: loss is nan")


KILLED = JobFailed("killed", "train: ended by SIGKILL, which the lab did not send")


@pytest.mark.parametrize("job", ["throughput", "train"])
def test_a_kill_from_outside_refuses_nobody_until_it_happens_again(lab, job):
    lab.evidence()
    assert lab.ab(gain=0.5, raises_once={job: KILLED}).verdict == "PROMOTE"


def test_who_is_killed_again_is_refused(lab):
    lab.evidence()
    record = lab.ab(gain=0.5, raises={"throughput": KILLED})
    assert record.verdict == "REJECT" and "SIGKILL" in record.results.reason


def test_a_failing_lab_is_a_failure_and_leaves_no_record(lab):
    lab.evidence()
    before = len(lab.ledger.records())
    lab.engine._train = lambda *args: (_ for _ in ()).throw(CRASH)  # type: ignore[method-assign]
    with pytest.raises(LabFailure, match="SIGSEGV"):
        lab.ab(gain=0.5)
    assert len(lab.ledger.records()) == before


def test_the_baselines_trainings_serve_the_next_candidate(lab):
    lab.evidence()
    lab.ab(gain=0.5)
    first = len(trained(lab))
    lab.engine.asked.clear()
    record = lab.ab(gain=0.5)
    assert record.verdict == "PROMOTE" and first == 4 + 2 + 8
    assert trained(lab) == [] or all(name.startswith("seed") for name in trained(lab))
    assert not any(args["selection"] == lab.baseline.plain() for job, args in lab.engine.asked if job == "train")
    assert jobs(lab)["throughput"] == 4  # races are measured anew


def test_a_killed_run_goes_on_where_it_was(lab):
    lab.evidence()
    before = len(lab.ledger.records())
    with pytest.raises(KeyboardInterrupt):
        lab.ab(gain=0.5, dies_after=3)
    assert len(lab.ledger.records()) == before and jobs(lab) == {"throughput": 3}
    with pytest.raises(KeyboardInterrupt):
        lab.ab(gain=0.5, dies_after=7)  # one more race, both trainings; killed before the evaluation
    assert jobs(lab) == {"throughput": 4, "check": 1, "train": 2}
    record = lab.ab(gain=0.5)
    assert record.verdict == "PROMOTE" and jobs(lab) == {"throughput": 4, "check": 1, "train": 2, "evaluate": 1}
    assert record.results.reused > 0 and record.results.attempt == 1


def test_lost_weights_are_trained_again(lab):
    lab.evidence()
    with pytest.raises(KeyboardInterrupt):
        lab.ab(gain=0.5, dies_after=7)
    for path in lab.root.results.glob("cache/ab/*.safetensors"):
        path.unlink()
    assert lab.ab(gain=0.5).verdict == "PROMOTE" and jobs(lab)["train"] == 4


def test_a_damaged_cache_is_measured_again(lab):
    lab.evidence()
    lab.ab(gain=0.5)
    for path in lab.root.results.glob("cache/ab/*.json"):
        path.write_text(path.read_text()[:-20])
    lab.engine.asked.clear()
    assert lab.ab(gain=0.5).verdict == "PROMOTE"
    assert jobs(lab) == {"throughput": 4, "check": 1, "train": 2, "evaluate": 1}


def test_a_further_attempt_is_held_to_half_the_error(lab):
    lab.evidence()
    first, second = lab.ab(gain=0.0), lab.ab(gain=0.0)
    assert second.results.attempt == 2 and second.results.alpha == first.results.alpha / 2
    assert second.seeds.race != first.seeds.race


def test_several_kernels_together(lab):
    other = next(k for k in lab.catalog["rms_norm"].kernels if k.role != "baseline")
    lab.evidence(predicted={"saved_ms": 2.0, "step_ms": 10.0})
    lab.evidence(other, predicted={"saved_ms": 1.0, "step_ms": 10.0})
    record = lab.ab(kernels={lab.target.name: lab.kernel, "rms_norm": other}, gain=0.5)
    assert record.verdict == "PROMOTE" and record.target is None and record.kernel is None
    assert set(record.settings.candidate) == {lab.target.name, "rms_norm"}
    assert record.results.gates["gain"].predicted_saved == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"verify": None, "bench": None}, "no verify that counts here; run: kernel-lab .*verify softcap"),
        ({"bench": None}, "no bench that counts here; run: kernel-lab .*bench softcap"),
        ({"bench": "SAME"}, "bench says SAME, not FASTER"),
        ({"verify": "FAIL", "bench": "FASTER"}, "verify says FAIL, not PASS"),
    ],
)
def test_missing_evidence_is_refused_with_the_next_command(lab, given, message):
    lab.evidence(**given)
    with pytest.raises(LabError, match=message):
        lab.ab()
    assert lab.engine.asked == []


def test_an_arm_against_itself_is_refused(lab):
    with pytest.raises(LabError, match="uses already"):
        lab.ab(kernels={"rms_norm": lab.baseline.kernels["rms_norm"]})
    with pytest.raises(LabError, match="at least one"):
        check_new({}, lab.baseline)


def test_a_kernel_that_the_arm_never_calls_is_refused(lab):
    lab.evidence()
    calls = {name: 3 for name in lab.catalog}
    with pytest.raises(LabError, match="softcap_cross_entropy=torch_library is never called"):
        lab.ab(calls={"candidate": {**calls, "softcap_cross_entropy": 0}, "baseline": calls})
    assert lab.ledger.find(kind="ab") == []
    unused = {**calls, "attention_mask": 0}  # another kernel's that is the same in both arms
    assert lab.ab(settings=Settings(seed=5), calls={"candidate": unused, "baseline": unused}).verdict == "PROMOTE"


def test_suite_promotes_only_if_no_preset_is_worse(lab):
    lab.evidence()
    good, null, slower = lab.ab(gain=0.5), lab.ab(gain=0.0), lab.ab(gain=-0.1)
    open_ = lab.ab(gain=0.08, noise=0.3, settings=Settings(futility_alpha=0.001))
    shutil.rmtree(lab.root.results / "cache")  # or the next candidate would be known to do no harm
    worse = lab.ab(gain=0.5, harm=0.05)
    assert suite_verdict({"a": good, "b": null})[0] == "PROMOTE"
    assert suite_verdict({"a": null, "b": null})[0] == "REJECT"
    assert suite_verdict({"a": good, "b": worse})[0] == "REJECT"
    assert suite_verdict({"a": good, "b": slower})[0] == "REJECT"
    assert open_.verdict == "UNDECIDED" and suite_verdict({"a": good, "b": open_})[0] == "UNDECIDED"


def test_processes_that_loaded_the_same_share_compiled_code(lab, capsys):
    lab.evidence()
    record = lab.ab(gain=0.5, settings=Settings(compile="auto"))
    told = [(one.process, one.cache["made"] > 0) for one in record.results.compile_caches]
    ahead = [("compiling the baseline", True), ("compiling the candidate", True)]
    modes = [("the baseline eager and compiled", False), ("the candidate eager and compiled", False)]
    races = [(f"race {number} of 4", False) for number in (1, 2, 3, 4)]
    assert told == [*ahead, *modes, *races, ("training the candidate", False), ("training the baseline", False)]
    # What a process with the candidate wrote, the baseline's never read.
    folders = {one.process: one.cache["name"] for one in record.results.compile_caches}
    assert {name for name in folders if folders[name] == folders["training the baseline"]} == {
        "compiling the baseline",
        "the baseline eager and compiled",
        "training the baseline",
    }
    assert len(set(folders.values())) == 2
    render(record, Console(width=200))
    line = "compiled anew: compiling the baseline 25 s, compiling the candidate 25 s; 8 more took"
    assert line in capsys.readouterr().out
    assert not lab.ab(gain=0.5).results.compile_caches


def test_a_compiled_ab_is_another_ab_and_is_held_to_what_is_saved_within_a_graph(lab):
    lab.evidence(predicted={"saved_ms": 50.0, "step_ms": 60.0}, arms=TIMED)
    assert lab.ab(gain=0.5).results.reason.startswith("gain")
    compiled = lab.ab(gain=0.5, settings=Settings(compile="on"))
    assert compiled.verdict == "PROMOTE" and compiled.settings.compile == "on"
    raced = [args["compiled"] for job, args in lab.engine.asked if job == "throughput"]
    assert raced[0] == [] and raced[-1] == ["baseline", "candidate"]
    assert all(args["compile"] for job, args in lab.engine.asked if job == "train")
    assert not any(remark.startswith("attempt") for remark in compiled.results.remarks)
    gain = compiled.results.gates["gain"]
    # Blocks of five steps in 1 us by the planted clock, and 40 ns saved of each step.
    assert gain.predicted_saved == pytest.approx(0.2) and compiled.results.processes[0].step_ms == pytest.approx(2e-4)
    assert "(by bench: 0.00 ms of the 0.0 ms measured in the other arm)" in gain.note
    slow = lab.ab(gain=0.05, settings=Settings(compile="on", gain_share=0.9))
    assert slow.verdict == "REJECT" and "under half of the predicted" in slow.results.reason
    assert Settings.for_device("cuda").compile == Settings.for_device("cpu").compile == "auto"


def test_why_there_is_no_prediction_is_said(lab):
    lab.evidence()
    told = lab.ab(gain=0.5).results.gates["gain"].note
    assert told.endswith("no prediction to compare with: a bench has no times of what the other arm runs")


def test_each_arm_trains_in_its_fastest_mode_which_is_found_once(lab):
    lab.evidence()
    settings = Settings(compile="auto")
    record = lab.ab(gain=0.5, compiled={"baseline": 0.4, "candidate": -0.2}, settings=settings)
    modes = record.results.modes
    assert (modes["baseline"].used, modes["candidate"].used) == ("compiled", "eager")
    assert modes["baseline"].compiled == pytest.approx(1.4 * modes["baseline"].eager, rel=0.02)
    assert record.mode_of("candidate") == "eager" and jobs(lab)["throughput"] == 2 + 2 + 4
    raced = [args["compiled"] for job, args in lab.engine.asked if job == "throughput"]
    assert sorted(raced[:2]) == [["baseline", "candidate"], ["candidate"]]  # both compile at once
    assert raced[2:] == [["candidate"]] * 2 + [["baseline"]] * 4
    # Both arms learn in the candidate's mode: nothing but the kernels tells them apart.
    assert not any(args["compile"] for job, args in lab.engine.asked if job == "train")
    lab.engine.asked.clear()
    again = lab.ab(gain=0.5, compiled={"baseline": -0.4}, settings=settings)
    assert jobs(lab)["throughput"] == 4 and again.results.modes == modes


def test_what_does_not_train_compiled_trains_eager_and_says_why(lab):
    lab.evidence()
    record = lab.ab(gain=0.5, compiled={"candidate": "Unsupported: a graph break"}, settings=Settings(compile="auto"))
    assert record.verdict == "PROMOTE" and record.results.modes["candidate"].used == "eager"
    assert any("a graph break" in remark for remark in record.results.remarks)


def test_what_fails_while_it_is_compiled_beside_the_other_arm_is_asked_again(lab):
    lab.evidence()
    dead = {"throughput": JobFailed("crash", "throughput: ended by SIGSEGV")}
    record = lab.ab(gain=0.5, raises_once=dead, settings=Settings(compile="auto"))
    assert record.verdict == "PROMOTE"
    assert "compiling the candidate" not in [one.process for one in record.results.compile_caches]


def test_where_nothing_can_be_compiled_both_arms_are_eager(lab, monkeypatch):
    monkeypatch.setattr("autoresearch_lab.ab.modes.cannot_compile", lambda engine: "no C++ compiler")
    lab.evidence()
    record = lab.ab(gain=0.5, settings=Settings(compile="auto"))
    assert {found.used for found in record.results.modes.values()} == {"eager"} and jobs(lab)["throughput"] == 4
    assert "no C++ compiler" in record.results.remarks[0]


def test_calls_that_are_wrong_in_a_training_reject_with_their_reason(lab):
    lab.evidence()
    words = "kernel softcap_cross_entropy=torch_library is wrong in training: call 7 of it, in step 3: result loss"
    record = lab.ab(gain=0.5, checks={"eager": {"wrong": words}})
    assert record.verdict == "REJECT" and record.results.reason == f"in_place: eager: {words}"
    assert "train" not in jobs(lab)  # nothing is spent on it any more
    assert suite_verdict({"cpu-nano": record}) == ("REJECT", f"worse with cpu-nano: eager: {words}")


def test_both_modes_are_checked_and_the_record_says_from_how_many_calls(lab, capsys):
    lab.evidence()
    record = lab.ab(gain=0.5, settings=Settings(compile="auto"))
    assert record.verdict == "PROMOTE" and set(record.results.in_place) == {"eager", "compiled"}
    one = record.results.in_place["compiled"].checked["targets"]["softcap_cross_entropy"]
    assert (one["calls"], one["checked"], one["elements"], one["bound"]) == (100, 50, 5000, 0.06)
    note = record.results.gates["in_place"].note
    assert "compiled: 50 calls right, so at most 6.0% of softcap_cross_entropy's wrong" in note
    (asked,) = [args for job, args in lab.engine.asked if job == "check"]
    assert [run["compile"] for run in asked["runs"]] == [True, False] and asked["targets"] == [lab.target.name]
    assert asked["selection"][lab.target.name]["sha256"] == lab.kernel.sha256
    render(record, Console(width=200))
    assert "checked in place, eager: softcap_cross_entropy=planted 50 of 100 calls" in capsys.readouterr().out


def test_only_the_mode_that_was_asked_for_is_checked(lab):
    lab.evidence()
    assert set(lab.ab(gain=0.5, settings=Settings(compile="off")).results.in_place) == {"eager"}


def test_a_mode_that_cannot_be_checked_is_named(lab):
    lab.evidence()
    plan = {"compiled": {"candidate": "TorchRuntimeError: no"}}
    record = lab.ab(gain=0.5, settings=Settings(compile="auto"), **plan)
    assert "no" in record.results.in_place["compiled"].not_checked and record.verdict == "PROMOTE"
    assert "compiled: not checked in place" in record.results.gates["in_place"].note


def test_a_candidate_that_does_not_train_while_it_is_checked_is_rejected(lab):
    lab.evidence()
    record = lab.ab(gain=0.5, checks={"eager": {"failed": "RuntimeError: not with me"}})
    assert record.verdict == "REJECT" and "does not train while it is checked" in record.results.reason


def test_without_checks_the_record_says_so(lab):
    lab.evidence()
    record = lab.ab(gain=0.5, settings=Settings(check_steps=0))
    assert record.verdict == "PROMOTE" and record.results.in_place["eager"].not_checked == "not asked for"
    assert "check" not in jobs(lab)


def test_a_rejection_for_divergence_names_seed_step_losses_and_what_to_do(lab):
    lab.evidence()
    reason = lab.ab(gain=0.5, early=30.0).results.reason
    assert re.search(r"with seed 10\d\d at step \d+: loss [\d.]+ against [\d.]+;", reason), reason
    assert "train.py --kernels softcap_cross_entropy=torch_library --seed 10" in reason
    assert "--check-kernels 100%" in reason
