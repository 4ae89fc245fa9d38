"""The state machine over candidates: a fold over the ledger.

Nothing is remembered outside the ledger and the workspaces. Each candidate's next step follows from the evidence that
counts for it, so a run that was killed continues where it was, and a second run repeats nothing.

A step that cannot be done (a kernel that breaks off while it is timed, say) is no verdict. It is noted, the other
candidates go on, and the next run tries it again after them.
"""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.diet import summary
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.evidence import Subject
from autoresearch_lab.executor.executor import INDEPENDENT, Executor, Local
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.results.record import AbRecord, BenchRecord, Record, VerifyRecord

STEPS = ("extract", "verify", "bench", "ab", "promote")
TOGETHER = "ab together"
# With it a person lets a kernel go beyond a kernel's diet.
ALLOW_OPTION = "--allow-beyond-diet"

# An A/B has to show more than this gain in tokens per second; what cannot reach it is not worth measuring.
LEAST_GAIN = 0.01
# A part of a composite target waits for a kernel of the composite that promises this share of what it could bring.
OUTDONE = 0.5


@dataclass
class Candidate:
    """One kernel of one target on its way through the steps.

    share: fraction of the training step spent in the target when it was profiled. saveable: the part of the step that
    a kernel at this machine's ceilings would save; equal to the share where the ceilings are unknown. replaces: the
    smaller targets whose work the kernel does itself. beyond_diet: what its source does beyond a kernel's diet that no
    person allowed; such a kernel is judged, and neither tried in the trainer nor promoted.
    """

    rank: int
    target: Target
    kernel: Kernel
    workspace: Path
    share: float
    saveable: float
    workloads_sha256: str
    subject: Subject
    replaces: frozenset[str] = frozenset()
    beyond_diet: tuple[str, ...] = ()
    records: dict[str, Record] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.target.name}={self.kernel.name}"

    @property
    def speedup(self) -> float | None:
        """Measured time ratio baseline / candidate of the bench that counts; None before it."""
        bench = self.records.get("bench")
        return bench.results.ratio if isinstance(bench, BenchRecord) else None

    @property
    def predicted_gain(self) -> float:
        """Expected relative gain in tokens per second: 1 / (1 - share + share / speed-up) - 1 (Amdahl's law), and no
        more than what could be saved gives."""
        if not self.speedup:
            return 0.0
        return min(1.0 / (1.0 - self.share + self.share / self.speedup) - 1.0, self.best_gain)

    @property
    def best_gain(self) -> float:
        """Relative gain in tokens per second if all that could be saved were."""
        return 1.0 / (1.0 - min(self.saveable, 0.99)) - 1.0

    def outdone_by(self, other: Candidate) -> bool:
        """Whether `other` does this one's work, is FASTER, and promises at least OUTDONE of what this one would bring
        at the machine's ceilings, which no kernel reaches; as long as the trainer has not refused it, and it needs no
        person."""
        bench, ab = other.records.get("bench"), other.records.get("ab")
        faster = isinstance(bench, BenchRecord) and bench.verdict == "FASTER"
        refused = other.beyond_diet or (isinstance(ab, AbRecord) and ab.verdict == "REJECT")
        does_it = self.target.name in other.replaces and faster and not refused
        return does_it and other.predicted_gain >= OUTDONE * self.best_gain

    def overlaps(self, other: Candidate) -> bool:
        """Whether one of the two does work that the other one is there for."""
        return other.target.name in self.replaces or self.target.name in other.replaces


@dataclass(frozen=True)
class CandidateState:
    """Where a candidate stands: the next step, or why there is none. failed: it was tried and could not be done.
    needs_person: it is good enough, but goes beyond a kernel's diet, which only a person can allow."""

    step: str | None
    reason: str
    failed: bool = False
    needs_person: bool = False


def state_of(
    candidate: Candidate,
    ledger: Ledger,
    promoted: dict[str, str],
    ab_settings: dict[str, Any],
    opened: bool,
    replaced_by: Sequence[str] = (),
) -> CandidateState:
    """Read off the ledger where `candidate` stands, and keep the records that say so in `candidate.records`.

    promoted: {target: content hash} of the kernels in use here. ab_settings: what an A/B must have been run with
    (preset, dataset fingerprint). opened: whether its workspace exists. replaced_by: the kernels in use that do all of
    its target's work, so that the trainer would not call it.
    """
    state = _by_evidence(candidate, ledger, promoted, ab_settings, replaced_by)
    if state.step is not None and not opened:
        state = CandidateState("extract", "no workspace yet")
    failure = candidate.subject.failure(ledger, state.step) if state.step else None
    return state if failure is None else CandidateState(state.step, f"{state.step} failed: {failure}", failed=True)


def _by_evidence(
    candidate: Candidate,
    ledger: Ledger,
    promoted: dict[str, str],
    ab_settings: dict[str, Any],
    replaced_by: Sequence[str],
) -> CandidateState:
    """See `state_of`; whether there is a workspace, and what failed, is not looked at."""
    verified = candidate.subject.latest(ledger, VerifyRecord)
    benched = candidate.subject.latest(ledger, BenchRecord)
    candidate.records = {record.kind: record for record in (verified, benched) if record is not None}
    decided = candidate.subject.latest(ledger, AbRecord, **ab_settings)
    # An A/B that foreign load spoilt concluded nothing; it does not stand in the way of another one.
    disturbed = decided is not None and decided.results.disturbed
    if decided is not None and not disturbed:
        candidate.records["ab"] = decided
    if replaced_by and promoted.get(candidate.target.name) != candidate.kernel.sha256:
        return CandidateState(None, f"no longer called: {', '.join(replaced_by)} in its place")
    if candidate.best_gain < LEAST_GAIN:
        return CandidateState(None, f"too little to gain: {candidate.best_gain:+.1%} tokens/s at best")
    for kind, wanted in (("verify", "PASS"), ("bench", "FASTER"), ("ab", "PROMOTE")):
        record = candidate.records.get(kind)
        if kind == "ab" and promoted.get(candidate.target.name) == candidate.kernel.sha256:
            break  # by an A/B of its own, or by one together with others, or by hand
        if kind == "ab" and candidate.beyond_diet and (record is None or record.verdict == wanted):
            return CandidateState(None, _beyond_diet(candidate), needs_person=True)
        if record is None and kind == "ab" and disturbed:
            return CandidateState("ab", "the last A/B was disturbed by other load on the machine")
        if record is None:
            return CandidateState(kind, f"no {kind} that counts here")
        if record.verdict != wanted:
            return CandidateState(None, f"{kind}: {record.verdict}" + _because(record))
        if kind == "bench" and "ab" not in candidate.records and candidate.predicted_gain < LEAST_GAIN:
            return CandidateState(None, f"too little to gain: {candidate.predicted_gain:+.1%} tokens/s predicted")
    if promoted.get(candidate.target.name) == candidate.kernel.sha256:
        return CandidateState(None, "promoted")
    return CandidateState("promote", "all evidence is there")


def _beyond_diet(candidate: Candidate) -> str:
    """Why it goes no further, and what lets it."""
    return (
        f"bench: FASTER, but beyond a kernel's diet: {summary(candidate.beyond_diet)}. If that is what it needs: "
        f"orchestrate {ALLOW_OPTION} {shlex.quote(candidate.label)}"
    )


def _because(record: Record) -> str:
    return f" ({record.results.reason})" if record.results.reason else ""


@dataclass
class Steps:
    """What executes each step; the orchestrator decides only which one is due. failed(candidate, step, reason): notes
    that a step could not be done; raises LabError where the ledger cannot take that, which ends the run."""

    extract: Callable[[Candidate], None]
    verify: Callable[[Candidate], None]
    bench: Callable[[Candidate], None]
    ab: Callable[[Candidate], None]
    promote: Callable[[Candidate], None]
    together: Callable[[list[Candidate]], None]
    state: Callable[[Candidate], CandidateState]
    failed: Callable[[Candidate, str, str], None]


def drive(
    candidates: list[Candidate],
    steps: Steps,
    on_step: Callable[[Candidate, str], None],
    most_finalists: int | None = None,
    together: bool = False,
    executor: Executor | None = None,
) -> dict[str, CandidateState]:
    """Bring every candidate to its end and return the final states by label.

    First all are verified and benchmarked by the `executor` (None: here, one after the other), in the profile's order.
    Then, always here, the winners go into the trainer, the one with the largest predicted gain first, each against the
    trainer as promoted so far: gains need not add up, and a small one shows better once the large ones are in. Of
    several winners for one target only the fastest goes on, and of all targets' winners at most `most_finalists` (those
    decided before included).

    A part of a composite target waits while a kernel of the composite does its work and promises enough; if that kernel
    is refused in the trainer, the part has its turn after all.

    together: first one A/B of all winners at once, which costs as much as that of a single one; only where it does not
    promote them do they go in one by one. Of two winners that overlap (a composite target's and a part's) the one with
    the larger predicted gain takes part in it; the other one's turn comes after.

    A kernel that goes beyond a kernel's diet, which nobody allowed, goes no further than the benchmark; the others of
    its target, and its parts, have their turn.

    Wherever candidates stand in a row, those whose next step failed in an earlier run stand behind the others.

    Raises:
        LabError, LabFailure: what concerns all candidates failed: the ledger, or the cluster.
    """
    turns = replace(steps, state=lambda candidate: _unless_outdone(candidate, candidates, steps.state(candidate)))
    _judge(candidates, turns, on_step, executor or Local(lambda item, step: getattr(steps, step)(item)))
    left = [candidate for candidate in candidates if turns.state(candidate) != steps.state(candidate)]
    finalists: dict[str, Candidate] = {}
    for candidate in sorted(candidates, key=lambda c: (turns.state(c).failed, -c.predicted_gain)):
        state = turns.state(candidate)
        if state.step in ("ab", "promote") or ("ab" in candidate.records and not state.needs_person):
            finalists.setdefault(candidate.target.name, candidate)
    undecided = _compatible(c for c in finalists.values() if turns.state(c).step == "ab")
    if together and len(undecided) > 1:
        on_step(undecided[0], f"ab of {len(undecided)} winners together, the first being")
        _attempt(undecided[0], TOGETHER, turns, turns.together, undecided)
    admitted = list(finalists.values())[:most_finalists]
    for candidate in admitted:
        _advance(candidate, turns, on_step)
    final = {}
    for candidate in candidates:
        end = turns.state(candidate)
        if end.step in ("ab", "promote") and not end.failed and candidate not in admitted:
            fastest = finalists.get(candidate.target.name) is candidate
            why = f"not among the {most_finalists} largest predicted gains" if fastest else "not the target's fastest"
            end = CandidateState(None, f"bench: FASTER, not tried in the trainer: {why}")
        final[candidate.label] = end
    if again := [candidate for candidate in left if turns.state(candidate).step is not None]:
        final |= drive(again, steps, on_step, most_finalists, together, executor)
    return final


def _unless_outdone(candidate: Candidate, rivals: Iterable[Candidate], state: CandidateState) -> CandidateState:
    """The state of a candidate; of one that is still to be judged but outdone, that it is left to the other one."""
    better = next((other for other in rivals if candidate.outdone_by(other)), None)
    if better is None or state.step not in ("extract", "verify", "bench"):
        return state
    return CandidateState(None, f"left to {better.label}, which does its work and promises enough")


def _compatible(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates, in their order, less those that overlap with one before them."""
    chosen: list[Candidate] = []
    for candidate in candidates:
        if not any(candidate.overlaps(other) for other in chosen):
            chosen.append(candidate)
    return chosen


def _judge(
    candidates: Iterable[Candidate],
    steps: Steps,
    on_step: Callable[[Candidate, str], None],
    executor: Executor,
) -> None:
    """Execute due steps until every candidate has none left, or an A/B next. The executor has the steps that do not
    depend on each other; a candidate that began is brought on before the next one begins. One whose step fails is left
    to the next run."""
    done: dict[str, set[str]] = {candidate.label: set() for candidate in candidates}
    due = [candidate for candidate in candidates if _due(candidate, steps, done[candidate.label], "ab")]
    waiting = deque(sorted(due, key=lambda candidate: steps.state(candidate).failed))
    by_label = {candidate.label: candidate for candidate in due}
    running: dict[str, str] = {}
    try:
        if waiting:
            executor.open()
        while waiting or running:
            while waiting and (place := executor.vacancy()) is not None:
                candidate = waiting.popleft()
                step = _due(candidate, steps, done[candidate.label], "ab")
                if step is None:
                    continue
                done[candidate.label].add(step)
                if step in INDEPENDENT:
                    on_step(candidate, step + place)
                    if _attempt(candidate, step, steps, executor.start, candidate, step):
                        running[candidate.label] = step
                        continue
                else:
                    on_step(candidate, step)
                    _attempt(candidate, step, steps, getattr(steps, step), candidate)
                waiting.appendleft(candidate)
            if waiting or running:
                for item, over, failure in executor.wait():
                    candidate = by_label[item.label]
                    step = running.pop(candidate.label)
                    if failure is not None:
                        steps.failed(candidate, step, failure)
                    if not over:
                        done[candidate.label].discard(step)
                    waiting.appendleft(candidate)
    finally:
        executor.close()


def _advance(candidate: Candidate, steps: Steps, on_step: Callable[[Candidate, str], None]) -> None:
    """Execute due steps here until there is none."""
    done: set[str] = set()
    while (step := _due(candidate, steps, done)) is not None:
        done.add(step)
        on_step(candidate, step)
        _attempt(candidate, step, steps, getattr(steps, step), candidate)


def _attempt(candidate: Candidate, step: str, steps: Steps, work: Callable[..., None], *arguments: Any) -> bool:
    """Do the `work` of a step; where it cannot be done, note that. Returns whether it was done."""
    try:
        work(*arguments)
    except (LabError, LabFailure) as failure:
        steps.failed(candidate, step, str(failure))
        return False
    return True


def _due(candidate: Candidate, steps: Steps, done: set[str], until: str | None = None) -> str | None:
    """The candidate's next step; None where there is none, where it is at or behind `until`, and where it is `done`:
    what it left does not count then (an A/B under foreign load, say), and the state tells why."""
    step = steps.state(candidate).step
    if step is None or step in done or (until is not None and STEPS.index(step) >= STEPS.index(until)):
        return None
    return step
