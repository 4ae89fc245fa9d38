"""The state machine repeats nothing, continues where it was, and sends only the best winner of a target on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.evidence import Subject
from autoresearch_lab.executor.executor import Ended
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.orchestrate import Candidate, CandidateState, Steps, drive, state_of

AB = {"preset": "p"}


class Lab:
    """A lab whose steps write records with planned verdicts, and remember what was executed."""

    def __init__(self, path: Path, verdicts: dict[str, dict[str, str]], ratios: dict[str, float]) -> None:
        self.ledger = Ledger(path / "ledger.jsonl")
        self.verdicts, self.ratios = verdicts, ratios
        self.opened: set[str] = set()
        self.promoted: dict[str, str] = {}
        self.disturbed = False
        self.joint = "PROMOTE"
        self.executed: list[str] = []
        self.broken: dict[str, Exception] = {}  # "kernel step" -> what it ends with

    def candidate(
        self, target: str, kernel: str, rank: int = 1, share: float = 0.5, saveable: float = 0.0
    ) -> Candidate:
        context = SimpleNamespace(
            engine=SimpleNamespace(name="cpu"), device={"key": "d"}, software={"key": "s"}, fields=dict
        )
        named = SimpleNamespace(name=target, contract_sha256="c" * 64)
        file = SimpleNamespace(name=kernel, sha256=(kernel[0] * 64), target=target)
        subject = Subject(named, file, "w" * 64, context)
        return Candidate(rank, named, file, Path(kernel), share, saveable or share, "w" * 64, subject)

    def write(self, candidate: Candidate, kind: str, **settings: Any) -> None:
        if error := self.broken.get(f"{candidate.kernel.name} {kind}"):
            raise error
        ratio = self.ratios[candidate.kernel.name]
        results = {"verify": {}, "bench": {"ratio": ratio}, "ab": {"ratio": ratio, "disturbed": self.disturbed}}[kind]
        self.append(candidate, kind, results, self.verdicts[candidate.kernel.name][kind], **settings)

    def failed(self, candidate: Candidate, step: str, reason: str) -> None:
        self.append(candidate, "note", {"reason": reason}, None, event="failed", step=step)

    def append(self, candidate: Candidate, kind: str, results: dict[str, Any], verdict: str | None, **settings: Any):
        self.ledger.append(
            kind,
            engine="cpu",
            device={"key": "d"},
            software={"key": "s"},
            target=candidate.target.name,
            kernel={"name": candidate.kernel.name, "sha256": candidate.kernel.sha256},
            workloads={"sha256": "w" * 64},
            settings={"contract_sha256": "c" * 64, **settings},
            results=results,
            verdict=verdict,
        )

    def together(self, candidates: list[Candidate]) -> None:
        self.executed.append("together " + " ".join(c.label for c in candidates))
        if error := self.broken.get("together"):
            raise error
        if self.joint == "PROMOTE":
            self.promoted.update({c.target.name: c.kernel.sha256 for c in candidates})

    def steps(self) -> Steps:
        return Steps(
            extract=lambda c: self.opened.add(c.label),
            verify=lambda c: self.write(c, "verify"),
            bench=lambda c: self.write(c, "bench"),
            ab=lambda c: self.write(c, "ab", **AB),
            promote=lambda c: self.promoted.update({c.target.name: c.kernel.sha256}),
            together=self.together,
            state=lambda c: state_of(c, self.ledger, self.promoted, AB, c.label in self.opened),
            failed=self.failed,
        )

    def drive(self, candidates: list[Candidate]) -> dict[str, CandidateState]:
        return drive(candidates, self.steps(), lambda c, step: self.executed.append(f"{c.label} {step}"))


GOOD = {"verify": "PASS", "bench": "FASTER", "ab": "PROMOTE"}


def test_a_winner_goes_all_the_way_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"e": GOOD}, {"e": 2.0})
    final = lab.drive([lab.candidate("norm", "e")])
    assert final["norm=e"] == CandidateState(None, "promoted")
    assert [step.split()[1] for step in lab.executed] == ["extract", "verify", "bench", "ab", "promote"]
    lab.executed.clear()
    assert lab.drive([lab.candidate("norm", "e")]) == final
    assert lab.executed == []


@pytest.mark.parametrize(
    ("kind", "verdict", "last"),
    [("verify", "FAIL", "verify"), ("bench", "SAME", "bench"), ("ab", "REJECT", "ab"), ("ab", "UNDECIDED", "ab")],
)
def test_a_negative_verdict_ends_the_way_and_is_not_asked_again(
    tmp_path: Path, kind: str, verdict: str, last: str
) -> None:
    lab = Lab(tmp_path, {"e": {**GOOD, kind: verdict}}, {"e": 2.0})
    for _ in range(2):
        assert lab.drive([lab.candidate("norm", "e")])["norm=e"] == CandidateState(None, f"{kind}: {verdict}")
    assert lab.executed[-1] == f"norm=e {last}"
    assert lab.promoted == {}


def test_killed_between_two_steps_it_continues_with_the_next(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"e": GOOD}, {"e": 2.0})
    lab.opened.add("norm=e")
    lab.write(lab.candidate("norm", "e"), "verify")
    lab.drive([lab.candidate("norm", "e")])
    assert lab.executed[0] == "norm=e bench"


def test_an_ab_under_foreign_load_concludes_nothing_and_is_tried_again_next_time(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"e": {**GOOD, "ab": "UNDECIDED"}}, {"e": 2.0})
    lab.disturbed = True
    final = lab.drive([lab.candidate("norm", "e")])
    assert final["norm=e"] == CandidateState("ab", "the last A/B was disturbed by other load on the machine")
    assert lab.executed.count("norm=e ab") == 1
    lab.disturbed, lab.verdicts["e"]["ab"] = False, "PROMOTE"
    assert lab.drive([lab.candidate("norm", "e")])["norm=e"] == CandidateState(None, "promoted")


def test_winners_enter_the_trainer_by_predicted_gain(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"a": GOOD, "b": GOOD}, {"a": 10.0, "b": 1.5})
    lab.drive([lab.candidate("small", "a", 1, share=0.02), lab.candidate("large", "b", 2, share=0.6)])
    assert [step for step in lab.executed if step.endswith(" ab")] == ["large=b ab", "small=a ab"]


def test_only_the_fastest_kernel_of_a_target_goes_on(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"a": GOOD, "b": GOOD}, {"a": 1.5, "b": 3.0})
    final = lab.drive([lab.candidate("norm", "a"), lab.candidate("norm", "b")])
    assert final["norm=b"].reason == "promoted"
    assert final["norm=a"].reason.endswith("not the target's fastest")
    assert lab.promoted == {"norm": "b" * 64}


def test_what_cannot_gain_one_percent_is_not_measured(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"a": GOOD, "b": GOOD}, {"a": 1.05, "b": 2.0})
    final = lab.drive([lab.candidate("slow", "a", share=0.1), lab.candidate("tiny", "b", share=0.5, saveable=0.005)])
    assert final["slow=a"] == CandidateState(None, "too little to gain: +0.5% tokens/s predicted")
    assert final["tiny=b"] == CandidateState(None, "too little to gain: +0.5% tokens/s at best")
    assert [step.split()[1] for step in lab.executed] == ["extract", "verify", "bench"]


def test_only_so_many_finalists_enter_the_trainer_in_this_run_and_the_next(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"a": GOOD, "b": GOOD}, {"a": 2.0, "b": 2.0})
    candidates = [lab.candidate("large", "a", share=0.5), lab.candidate("small", "b", share=0.1)]
    for _ in range(2):
        final = drive(candidates, lab.steps(), lambda c, step: lab.executed.append(f"{c.label} {step}"), 1)
        assert final["large=a"].reason == "promoted"
        assert final["small=b"].reason.endswith("not among the 1 largest predicted gains")
    assert [step for step in lab.executed if step.endswith(" ab")] == ["large=a ab"]


@pytest.mark.parametrize("joint", ["PROMOTE", "UNDECIDED"])
def test_winners_together_first_and_one_by_one_only_if_that_does_not_promote(tmp_path: Path, joint: str) -> None:
    lab = Lab(tmp_path, {"a": GOOD, "b": GOOD}, {"a": 2.0, "b": 2.0})
    lab.joint = joint
    candidates = [lab.candidate("small", "b", share=0.1), lab.candidate("large", "a", share=0.5)]
    final = drive(candidates, lab.steps(), lambda c, step: lab.executed.append(f"{c.label} {step}"), together=True)
    assert {label: state.reason for label, state in final.items()} == {"large=a": "promoted", "small=b": "promoted"}
    assert "together large=a small=b" in lab.executed
    single = [step for step in lab.executed if step.endswith(" ab")]
    assert single == ([] if joint == "PROMOTE" else ["large=a ab", "small=b ab"])


@pytest.mark.parametrize("joint", ["PROMOTE", "UNDECIDED"])
def test_a_composite_and_a_part_that_both_win_are_not_tried_in_one_ab(tmp_path: Path, joint: str) -> None:
    """The one that promises more takes part in the joint A/B, the other one's turn comes after."""
    lab = Lab(tmp_path, {"a": GOOD, "b": GOOD, "c": GOOD}, {"a": 2.0, "b": 1.2, "c": 2.0})
    lab.joint = joint
    candidates = [lab.candidate("prelude", "a", share=0.2), lab.candidate("rope", "b", share=0.3)]
    candidates.append(lab.candidate("norm", "c", share=0.05))
    candidates[0].replaces = frozenset({"rope"})
    final = drive(candidates, lab.steps(), lambda c, step: lab.executed.append(f"{c.label} {step}"), together=True)
    assert "together prelude=a norm=c" in lab.executed
    assert "rope=b ab" in lab.executed
    assert {state.reason for state in final.values()} == {"promoted"}


def composite_and_part(lab: Lab) -> list[Candidate]:
    head = lab.candidate("head", "a", 1, share=0.6)
    head.replaces = frozenset({"softcap"})
    return [head, lab.candidate("softcap", "b", 2, share=0.3)]


def test_a_part_is_left_to_a_composite_that_promises_more(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"a": GOOD, "b": GOOD}, {"a": 3.0, "b": 9.0})
    final = lab.drive(composite_and_part(lab))
    assert final["head=a"].reason == "promoted"
    assert final["softcap=b"].reason == "left to head=a, which does its work and promises enough"
    assert not any(step.startswith("softcap") for step in lab.executed)


def test_a_part_has_its_turn_where_the_composite_promises_less_or_is_refused(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "less", {"a": GOOD, "b": GOOD}, {"a": 1.1, "b": 9.0})
    lab.drive(composite_and_part(lab))
    assert "softcap=b bench" in lab.executed
    lab = Lab(tmp_path / "refused", {"a": {**GOOD, "ab": "REJECT"}, "b": GOOD}, {"a": 3.0, "b": 9.0})
    final = lab.drive(composite_and_part(lab))
    assert final["head=a"].reason == "ab: REJECT" and final["softcap=b"].reason == "promoted"
    assert lab.executed.index("head=a ab") < lab.executed.index("softcap=b verify")


IMPORTS_OS = ("kernel.py line 3: imports os", "kernel.py line 9: uses open")


def test_a_kernel_beyond_its_diet_is_judged_and_not_promoted(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"e": GOOD}, {"e": 2.0})
    candidate = lab.candidate("norm", "e")
    candidate.beyond_diet = IMPORTS_OS
    for _ in range(2):
        end = lab.drive([candidate])["norm=e"]
        assert end.step is None and end.needs_person and not end.failed
        assert all(line in end.reason for line in IMPORTS_OS) and "--allow-beyond-diet norm=e" in end.reason
    assert [step.split()[1] for step in lab.executed] == ["extract", "verify", "bench"] and lab.promoted == {}
    # An A/B that somebody asked for by hand changes nothing, as long as it does not refuse the kernel.
    lab.write(candidate, "ab", **AB)
    assert lab.drive([candidate])["norm=e"].needs_person
    lab.promoted["norm"] = candidate.kernel.sha256
    assert lab.drive([candidate])["norm=e"] == CandidateState(None, "promoted")


def test_the_verdict_of_a_kernel_beyond_its_diet_that_is_not_good_enough_is_what_is_told(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"e": {**GOOD, "bench": "SAME"}}, {"e": 1.0})
    candidate = lab.candidate("norm", "e")
    candidate.beyond_diet = IMPORTS_OS
    assert lab.drive([candidate])["norm=e"] == CandidateState(None, "bench: SAME")


@pytest.mark.parametrize("tried", [False, True])
def test_a_kernel_beyond_its_diet_stands_in_nobodys_way(tmp_path: Path, tried: bool) -> None:
    """Neither in that of a slower one of its target, nor in that of its parts, nor does it go in with the others."""
    lab = Lab(tmp_path, dict.fromkeys("abc", GOOD), {"a": 3.0, "b": 2.0, "c": 9.0})
    head, part = composite_and_part(lab)
    head.beyond_diet, slower = IMPORTS_OS, lab.candidate("head", "c", 1, share=0.6, saveable=0.1)
    if tried:
        lab.write(head, "ab", **AB)
    final = drive([head, slower, part], lab.steps(), lambda c, step: lab.executed.append(step), together=True)
    assert final["head=a"].needs_person
    assert final["head=c"].reason == final["softcap=b"].reason == "promoted"
    assert "together softcap=b head=c" in lab.executed or "together head=c softcap=b" in lab.executed


def test_a_kernel_that_is_no_longer_called_is_not_tried(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"b": GOOD}, {"b": 2.0})
    candidate = lab.candidate("rope", "b")

    def state(in_use: dict[str, str]) -> CandidateState:
        return state_of(candidate, lab.ledger, in_use, AB, True, ["prelude=a"])

    assert state({}) == CandidateState(None, "no longer called: prelude=a in its place")
    for kind in ("verify", "bench"):
        lab.write(candidate, kind)
    assert state({"rope": candidate.kernel.sha256}).reason == "promoted"


def test_predicted_gain_is_amdahls(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"e": GOOD}, {"e": 2.0})
    candidate = lab.candidate("norm", "e", share=0.5)
    assert candidate.predicted_gain == 0.0
    lab.write(candidate, "bench")
    candidate.records["bench"] = lab.ledger.records()[-1]
    assert candidate.predicted_gain == pytest.approx(1 / 0.75 - 1)
    candidate.saveable = 0.2
    assert candidate.predicted_gain == pytest.approx(1 / 0.8 - 1)


class TwoPlaces:
    """An executor with two places, where what is started later ends first, and a first attempt may come to nothing."""

    def __init__(self, lab: Lab, lost: int = 0) -> None:
        self.lab, self.lost = lab, lost
        self.running: list[tuple[Candidate, str]] = []
        self.opened = self.closed = 0

    def open(self) -> None:
        self.opened += 1

    def vacancy(self) -> str | None:
        return f" on {len(self.running)}" if len(self.running) < 2 else None

    def start(self, item: Candidate, step: str) -> None:
        self.running.append((item, step))

    def wait(self) -> list[Ended]:
        candidate, step = self.running.pop()
        if self.lost:
            self.lost -= 1
            return [Ended(candidate, False)]
        self.lab.write(candidate, step)
        return [Ended(candidate, True)]

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("lost", [0, 1])
def test_verify_and_bench_go_to_the_executor_and_the_rest_stays_here(tmp_path: Path, lost: int) -> None:
    lab = Lab(tmp_path, {"a": GOOD, "b": GOOD, "c": {"verify": "FAIL"}}, {"a": 2.0, "b": 2.0, "c": 1.0})
    candidates = [lab.candidate("norm", "a"), lab.candidate("rope", "b"), lab.candidate("mask", "c")]
    places = TwoPlaces(lab, lost)
    tell = lambda c, step: lab.executed.append(f"{c.label} {step}")  # noqa: E731
    final = drive(candidates, lab.steps(), tell, executor=places)
    assert [final[c.label].reason for c in candidates] == ["promoted", "promoted", "verify: FAIL"]
    assert lab.executed[:4] == ["norm=a extract", "norm=a verify on 0", "rope=b extract", "rope=b verify on 1"]
    assert sum(" verify on " in step for step in lab.executed) == 3 + lost
    assert [step for step in lab.executed if step.endswith((" ab", " promote"))] == lab.executed[-4:]
    assert (places.opened, places.closed) == (1, 1)
    again = TwoPlaces(lab)
    assert drive(candidates, lab.steps(), tell, executor=again) == final
    assert again.opened == 0


def test_an_executor_is_closed_when_a_step_fails(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"a": GOOD}, {"a": 2.0})
    places = TwoPlaces(lab)
    places.wait = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        drive([lab.candidate("norm", "a")], lab.steps(), lambda c, step: None, executor=places)
    assert places.closed == 1


@pytest.mark.parametrize("step", ["verify", "bench", "ab"])
@pytest.mark.parametrize("error", [LabError("no"), LabFailure("no")])
def test_a_step_that_fails_is_no_verdict_and_the_others_go_on(tmp_path: Path, step: str, error: Exception) -> None:
    lab = Lab(tmp_path, {"a": GOOD, "b": GOOD}, {"a": 3.0, "b": 2.0})
    lab.broken[f"a {step}"] = error
    candidates = [lab.candidate("norm", "a"), lab.candidate("rope", "b")]
    assert lab.drive(candidates)["rope=b"].reason == "promoted"
    final = lab.drive(candidates)
    assert final == {
        "norm=a": CandidateState(step, f"{step} failed: no", failed=True),
        "rope=b": CandidateState(None, "promoted"),
    }
    assert lab.executed.count(f"norm=a {step}") == 2  # once in each run
    lab.broken.clear()
    assert lab.drive(candidates)["norm=a"] == CandidateState(None, "promoted")


@pytest.mark.parametrize("step", ["verify", "bench", "ab"])
def test_what_failed_is_tried_again_after_the_others(tmp_path: Path, step: str) -> None:
    lab = Lab(tmp_path, {"a": GOOD, "b": GOOD}, {"a": 3.0, "b": 2.0})
    lab.broken[f"a {step}"] = LabFailure("no")
    lab.drive([lab.candidate("norm", "a")])
    lab.executed.clear()
    lab.drive([lab.candidate("norm", "a"), lab.candidate("rope", "b")])
    assert lab.executed.index(f"rope=b {step}") < lab.executed.index(f"norm=a {step}")


def test_a_finalist_that_fails_takes_no_place_from_the_next_one_in_the_next_run(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"a": GOOD, "b": GOOD}, {"a": 3.0, "b": 2.0})
    lab.broken["a ab"] = LabFailure("no")
    candidates = [lab.candidate("norm", "a"), lab.candidate("rope", "b")]
    for expected in ("not among the 1 largest predicted gains", "promoted"):
        final = drive(candidates, lab.steps(), lambda c, step: None, 1)
        assert final["norm=a"].reason == "ab failed: no" and final["rope=b"].reason.endswith(expected)


def test_winners_that_fail_together_go_in_one_by_one(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"a": GOOD, "b": GOOD}, {"a": 3.0, "b": 2.0})
    lab.broken["together"] = LabFailure("no")
    candidates = [lab.candidate("norm", "a"), lab.candidate("rope", "b")]
    final = drive(candidates, lab.steps(), lambda c, step: None, together=True)
    assert {state.reason for state in final.values()} == {"promoted"}
    assert lab.ledger.latest(kind="note").settings.step == "ab together"


def test_where_the_ledger_cannot_take_the_note_the_run_ends(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"a": GOOD, "b": GOOD}, {"a": 3.0, "b": 2.0})
    lab.broken["a verify"] = LabFailure("no")
    lab.ledger.path.write_text("{\n")
    with pytest.raises(LabError, match="cannot be read"):
        lab.drive([lab.candidate("norm", "a"), lab.candidate("rope", "b")])


def test_what_is_decided_is_said_where_there_is_no_workspace(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"a": {**GOOD, "ab": "REJECT"}}, {"a": 3.0})
    lab.drive([lab.candidate("norm", "a")])
    lab.opened.clear()
    assert lab.steps().state(lab.candidate("norm", "a")) == CandidateState(None, "ab: REJECT")


def test_what_was_done_since_it_failed_counts(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"a": GOOD}, {"a": 3.0})
    lab.broken["a ab"] = LabFailure("no")
    assert lab.drive([lab.candidate("norm", "a")])["norm=a"].failed
    lab.broken.clear()
    lab.disturbed = True
    assert not lab.drive([lab.candidate("norm", "a")])["norm=a"].failed
