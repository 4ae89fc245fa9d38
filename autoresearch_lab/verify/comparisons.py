"""All that a verification knows when the processes have ended, and the comparisons that the checks are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np

from autoresearch_common.metrics import errors
from autoresearch_common.tolerance import Errors, allowed, excess, excess_of, median, of_a_sum, worst
from autoresearch_common.workload import scalars
from autoresearch_lab.catalog import Target
from autoresearch_lab.results.verify import ComparedResult
from autoresearch_lab.verify.axes import in_one_row
from autoresearch_lab.verify.cases import DIVERGED, ROUGH, ROWS, Case, main_dtype, widen
from autoresearch_lab.verify.exchange import Answers, shadow_number
from autoresearch_lab.verify.factors import METRIC, SIDE, Factor, Factors, coarsest_dtype, in_words
from autoresearch_lab.verify.reference import Expected, References, Results
from autoresearch_lab.verify.sanitized import Sanitized
from autoresearch_trainer.jobs.calls import Raised, ResultName

# Where the baseline itself is this wrong, or raises, the case says nothing about a candidate.
BASELINE_USELESS = 0.5
EDGE_FLOORS = 8.0
# Of fewer single numbers nobody knows what is usual.
LEAST_NUMBERS = 5
# An error up to so many times what is allowed is held against what roundings do, of so many half units per argument.
NEARLY, ROUNDINGS = 4.0, 2.0
K = TypeVar("K", bound=Hashable)  # a set of calls
# Kinds of values in whose sums roundings go one way for long: some rows are one number throughout, or thousands of
# small terms follow a large one, beside which each of them is rounded away.
ONE_WAY = ("edge", "scaled", "adversarial")


@dataclass(frozen=True)
class Comparison:
    """One result of one step held against the oracle. `excess` = worst error / allowed error; 1 or less is right."""

    case: Case
    step: int
    name: ResultName
    excess: float
    metric: str
    error: float
    baseline: float
    limit: float
    problem: str | None = None
    factor: Factor | None = None

    @property
    def passed(self) -> bool:
        return self.problem is None and self.excess <= 1.0

    def words(self) -> str:
        """For people: what is wrong, where, by how much."""
        place = f"{self.name.words()} in {self.case.id} step {self.step} ({self.contents()})"
        if self.problem:
            return f"{place}: {self.problem}"
        return (
            f"{place}: {in_words(self.metric)} {self.error:.3g}, allowed {self.limit:.3g} "
            f"(trusted implementations' own {self.baseline:.3g})"
        )

    def contents(self) -> str:
        contents, usual = self.case.steps[self.step].contents, scalars(self.case.workload)
        own = [f"{name} {value}" for name, value in contents.scalars.items() if usual.get(name) != value]
        of_this_step = f"; in this step {', '.join(own)}" if own else ""
        return f"{contents.kind} values, {self.case.shapes()}{of_this_step}"

    def recorded(self) -> ComparedResult:
        return ComparedResult(
            case=self.case.id,
            step=self.step,
            contents=self.case.steps[self.step].contents.kind,
            result=str(self.name),
            arguments=self.case.shapes(),
            metric=self.metric,
            error=_finite(self.error),
            baseline_error=self.baseline,
            allowed=self.limit,
            problem=self.problem,
        )


class Comparisons:
    """Cases, what candidate and baseline answered, and what would be right."""

    def __init__(
        self,
        target: Target,
        cases: list[Case],
        candidate: Answers,
        baseline: Answers,
        references: References,
        idle: Answers | None = None,
        trusted: Sequence[Answers] = (),
        sanitized: Sanitized | None = None,
    ) -> None:
        self.target = target
        self.cases = cases
        self.candidate = candidate
        self.baseline = baseline
        self.references = references
        # The candidate once more with native functions that do nothing; None where it has none.
        self.idle = idle
        # What the other trusted implementations answered; how wrong the worst of them is, a candidate may be, too.
        self.trusted = trusted
        # The candidate once more with its C++ built so that an access out of bounds ends it; None where it has none.
        self.sanitized = sanitized
        self.not_judged: dict[str, str] = {}
        self._compared: dict[str, list[Comparison]] = {}
        self._own_errors: dict[str, Errors | None] = {}

    def group(self, *names: str) -> list[Case]:
        """The cases of these groups that the candidate computed and the baseline can vouch for."""
        return [case for case in self.cases if case.group in names and self.usable(case) and not self.error(case)]

    def error(self, case: Case) -> Raised | None:
        """What the candidate raised in this case."""
        told = self.candidate.case(case.id)
        return told.error if told else None

    def usable(self, case: Case) -> bool:
        """Whether the baseline computes the case at all; one that it cannot do is not asked of a candidate."""
        told = self.baseline.case(case.id)
        raised = told.error if told else None
        if raised:
            self.not_judged[case.id] = f"the baseline raises {raised.type}: {raised.message}"
        return not raised

    def same(self, case: Case, first: int, second: int, name: ResultName) -> bool | None:
        """Whether a result of two steps is equal bit for bit; None where either is missing."""
        one, two = self.candidate.array(case, first, name), self.candidate.array(case, second, name)
        if one is None or two is None:
            return None
        return one.shape == two.shape and one.dtype == two.dtype and one.tobytes() == two.tobytes()

    def comparisons(self, case: Case) -> list[Comparison]:
        """Every result of every judged step of one case, outputs first; computed once."""
        if case.id not in self._compared:
            self._compared[case.id] = list(self._compare(case))
        return self._compared[case.id]

    def results(self, case: Case, step: int) -> Results:
        """What the oracle gives for a step."""
        return self.references.of(case, case.steps[step])

    @cached_property
    def everything(self) -> list[Comparison]:
        """All comparisons of all usable cases."""
        names = {case.group for case in self.cases}
        return [comparison for case in self.group(*names) for comparison in self.comparisons(case)]

    def worst(self) -> float | None:
        """The largest error relative to what is allowed, over everything that could be compared."""
        excesses = [comparison.excess for comparison in self.everything if comparison.problem is None]
        return max(excesses, default=None)

    @cached_property
    def factors(self) -> Factors:
        """Common factors in errors, and how large those of the trusted implementations are."""
        return Factors(self.target.contract, (self.baseline, *self.trusted), self.references)

    # How one result is compared.

    def _compare(self, case: Case) -> Iterator[Comparison]:
        for number, step in enumerate(case.steps):
            if not step.judged:
                continue
            if step.contents.kind == DIVERGED:
                yield from self._hidden(case, number)
                continue
            for name, right in self.results(case, number).items():
                own = self._own(case, number, name, right)
                if own is None:
                    continue
                floor = self._floor(case, number, name, right)
                limits = allowed(own, self.target.contract.tolerance.factor, floor, case.rows(right.value.shape))
                limits = limits.widened(self._sum(case, number, name, right))
                yield self._judge(case, number, name, right, own, limits)
                if step.again and name.kind == "gradient":
                    if self.candidate.array(case, number, name.again) is not None:
                        yield self._judge(case, number, name.again, right, own, limits)
                if name.kind == "output" and self.candidate.array(case, number, name.turned) is not None:
                    yield self._judge(case, number, name.turned, right, own, limits)

    def _hidden(self, case: Case, step: int) -> Iterator[Comparison]:
        """Gradients that are finite throughout where those of the oracle and the baseline are not."""
        for name, right in self.results(case, step).items():
            found, usual = self.candidate.array(case, step, name), self.baseline.array(case, step, name)
            if name.kind != "gradient" or right.all_finite or found is None or usual is None:
                continue
            hides = not np.isfinite(widen(usual)).all() and bool(np.isfinite(widen(found)).all())
            problem = "is finite throughout, though the cotangents are not" if hides else None
            yield Comparison(case, step, name, 0.0, "", 0.0, 0.0, 0.0, problem)

    def _judge(
        self, case: Case, step: int, name: ResultName, right: Expected, own: Errors, limits: Errors
    ) -> Comparison:
        found = self.candidate.array(case, step, name)
        if found is None:
            # Whether a result is there at all is the business of the checks of form and of gradients.
            return Comparison(case, step, name, 0.0, "", 0.0, 0.0, 0.0, None)
        if found.shape != right.value.shape:
            return Comparison(case, step, name, 0.0, "", 0.0, 0.0, 0.0, f"shape {found.shape}, not {right.value.shape}")
        values = not_finite_either(widen(found), right, [each.array(case, step, name) for each in self.trusted])
        problem = nonfinite_problem(values, right)
        if problem:
            return Comparison(case, step, name, 0.0, "", 0.0, 0.0, 0.0, problem)
        measured = measure(values, right)
        most, metric = excess_of(measured, limits)
        if 1.0 < most <= NEARLY:
            limits = worst([limits, self._unavoidable(case, step, name, right)])
            most, metric = excess_of(measured, limits)
        factor = self.factors.of(case, step, name, right, values)
        if factor is not None and (by_factor := excess(factor.sure, factor.allowed)) > most:
            return Comparison(
                case, step, name, by_factor, METRIC, factor.sure, factor.trusted, factor.allowed, factor=factor
            )
        side = self.factors.of_a_side(case, step, name, right, values) if most <= 1.0 else None
        if side is not None:
            beyond = excess(side.sure, side.allowed)
            return Comparison(case, step, name, beyond, SIDE, side.sure, side.trusted, side.allowed, factor=factor)
        part = self.factors.of_a_part(case, step, name, right, values) if most <= 1.0 else None
        if part is not None:
            words, one = part
            beyond = excess(one.sure, one.allowed)
            return Comparison(case, step, name, beyond, words, one.sure, one.trusted, one.allowed, factor=factor)
        return Comparison(
            case, step, name, most, metric,
            getattr(measured, metric), getattr(own, metric), getattr(limits, metric), factor=factor,
        )  # fmt: skip

    def _unavoidable(self, case: Case, step: int, name: ResultName, right: Expected) -> Errors:
        """What two roundings of each argument in float32 do to a result: no order of operations can avoid that much. In
        a row that nearly cancels it may be most of the error, and the trusted implementations, which round alike, may
        be lucky in just this row. A bias is none of it."""
        disturbed = [values[name.once] for values in self.references.disturbed(case, case.steps[step])]
        usable = [values for values in disturbed if nonfinite_problem(values, right) is None]
        found = [replace(measure(values, right).times(ROUNDINGS), bias=0.0) for values in usable]
        return worst([Errors(0.0, 0.0, 0.0, 0.0), *found])

    def _own(self, case: Case, step: int, name: ResultName, right: Expected) -> Errors | None:
        """The trusted implementations' own errors on a step and on its shadows, or None where the baseline is no
        measure.

        The error in one call may be small by luck. On edge and adversarial values the worst of all calls with such
        values counts; on an odd or held-out shape the worst of the calls of that shape, edge values apart; of small
        calls of many rows and widths, one of each, the worst of all. Where all rows of an argument are one, all are
        rounded alike, and nothing averages out: the worst of all such calls. A single number, the mean of rows, may be
        right by luck in all calls of a shape: its error counts at least as large as is usual over so many rows. So may
        one number for each row, where few rows count: its error counts at least as large as is usual.
        """
        own = self._baseline_errors(case, step, name, right)
        if own is None:
            return None
        pooled = [more for pool in _pools_of(case, step, name, right) for more in self._pools.get(pool, [])]
        for numbers in _numbers_of(case, step, name, right):
            if numbers in self._usual:
                usual = self._usual[numbers].times(1.0 / math.sqrt(numbers.averaged(case)))
                counted = max(1, int(np.count_nonzero(right.value))) if numbers.by_row else 1
                pooled.append(replace(usual, bias=usual.whole / math.sqrt(counted)))
        return worst([own, *pooled])

    @cached_property
    def _pools(self) -> dict[Hashable, list[Errors]]:
        return {pool: [own for _, own in members] for pool, members in self._by(_pools_of).items()}

    @cached_property
    def _usual(self) -> dict[_Numbers, Errors]:
        """The median error of outputs that are numbers, each times the square root of the rows that it is the mean of;
        of many calls."""
        return {
            numbers: median([own.times(math.sqrt(numbers.averaged(case))) for case, own in members])
            for numbers, members in self._by(_numbers_of).items()
            if len(members) >= LEAST_NUMBERS
        }

    def _by(self, sets_of: Callable[..., list[K]]) -> dict[K, list[tuple[Case, Errors]]]:
        """{set: the trusted implementations' errors on every result that belongs to it, with its case}."""
        members: dict[K, list[tuple[Case, Errors]]] = {}
        for case in self.cases:
            for number, step in enumerate(case.steps):
                if not step.judged or step.contents.kind == DIVERGED or not self.usable(case):
                    continue
                for name, right in self.results(case, number).items():
                    wanted = sets_of(case, number, name, right)
                    own = self._baseline_errors(case, number, name, right) if wanted else None
                    if own is not None:
                        for one in wanted:
                            members.setdefault(one, []).append((case, own))
        return members

    def _baseline_errors(self, case: Case, step: int, name: ResultName, right: Expected) -> Errors | None:
        """The worst of the trusted implementations' errors on this step and its shadows; None (and a remark) where the
        baseline disagrees with the oracle about what is finite, or is useless."""
        key = f"{case.id} step {step} {name}"
        if key not in self._own_errors:
            self._own_errors[key] = self._measure_baseline(case, step, name, right, key)
        return self._own_errors[key]

    def _measure_baseline(self, case: Case, step: int, name: ResultName, right: Expected, key: str) -> Errors | None:
        own = self._measure(self.baseline, case, step, name, right)
        if isinstance(own, str):
            self.not_judged[key] = own
            return None
        others = [self._measure(answers, case, step, name, right) for answers in self.trusted]
        return worst([own, *(other for other in others if isinstance(other, Errors))])

    def _measure(self, answers: Answers, case: Case, step: int, name: ResultName, right: Expected) -> Errors | str:
        """The errors of one trusted implementation on a step and its shadows, or in words why it is no measure."""
        found = answers.array(case, step, name)
        if found is None or found.shape != right.value.shape:
            return "the baseline gives no such result"
        values = widen(found)
        problem = nonfinite_problem(values, right)
        if problem:
            return f"the baseline differs from the oracle: {problem}"
        own = measure(values, right)
        if own.whole > BASELINE_USELESS:
            return f"the baseline's own error is {own.whole:.2g}"
        return worst([own, *self._shadow_errors(answers, case, step, name, right)])

    def _shadow_errors(
        self, answers: Answers, case: Case, step: int, name: ResultName, right: Expected
    ) -> Iterator[Errors]:
        for place, contents in enumerate(case.steps[step].shadows):
            found = answers.array(case, shadow_number(case, step, place), name)
            truth = self.references.shadow(case, contents)[name]
            if found is None or found.shape != truth.value.shape:
                continue
            values = widen(found)
            if nonfinite_problem(values, truth) is None:
                yield measure(values, replace(truth, scale=right.scale))

    def _floor(self, case: Case, step: int, name: ResultName, right: Expected) -> float:
        """The contract's floor for a result. A gradient is no more precise than the coarsest floating argument; on edge
        values (rows of thousands of equal numbers, say) roundings go one way and add up."""
        floors = self.target.contract.tolerance.floor
        coarsest = coarsest_dtype(case, name, right)
        edge = case.steps[step].contents.kind == "edge"
        return floors.get(coarsest, 0.0) * (EDGE_FLOORS if edge else 1.0)

    def _sum(self, case: Case, step: int, name: ResultName, right: Expected) -> float:
        """What a result's longest sum may add to its error where it is made in float32 in the plainest way. A gradient
        of something smaller than the results is such a sum itself."""
        equal = case.steps[step].contents.kind in ONE_WAY
        most = of_a_sum(self.references.longest_sum(case), equal=equal)
        if name.kind == "gradient" and right.value.size:
            results = self.results(case, step).items()
            whole = max(result.value.size for other, result in results if other.kind == "output")
            most = max(most, of_a_sum(whole / right.value.size))
        return most


def _pools_of(case: Case, step: int, name: ResultName, right: Expected) -> list[Hashable]:
    """Names of the sets of calls over which the baseline's worst error counts for a result of this step."""
    kind = case.steps[step].contents.kind
    pools: list[Hashable] = []
    if kind in ROUGH:
        pools.append((kind, main_dtype(case.workload), name))
    if case.group in ("odd", "combinations", "held_out") and kind != "edge":
        pools.append((case.id, name))
    if case.id.startswith(ROWS):
        pools.append((ROWS, main_dtype(case.workload), name))
    if in_one_row(case):
        pools.append(("in one row", main_dtype(case.workload), name))
    return pools


@dataclass(frozen=True)
class _Numbers:
    """Outputs of usual values that are one number, or one for each row of data."""

    dtype: str | None
    name: ResultName
    by_row: bool

    def averaged(self, case: Case) -> int:
        """Of how many rows each number is the mean."""
        return 1 if self.by_row else case.rows_of_data()


def _numbers_of(case: Case, step: int, name: ResultName, right: Expected) -> list[_Numbers]:
    """The set of numbers that an output belongs to, by which it is measured as well; none for others."""
    by_row = right.value.shape == (case.rows_of_data(),)
    if name.kind != "output" or case.steps[step].contents.kind != "typical" or (right.value.shape and not by_row):
        return []
    return [_Numbers(main_dtype(case.workload), name, by_row)]


def nonfinite_problem(values: np.ndarray, right: Expected) -> str | None:
    """Where values are NaN or infinite and should not be, or the other way round; None where all agree."""
    if values.dtype == np.bool_:
        return None
    differences = (
        (np.isnan(values), right.nan, "NaN"),
        (values == np.inf, right.positive, "+inf"),
        (values == -np.inf, ~(right.finite | right.nan | right.positive), "-inf"),
    )
    for found, wanted, word in differences:
        wrong = found != wanted
        if wrong.any():
            extra = int(np.count_nonzero(found & ~wanted))
            lacking = int(np.count_nonzero(wanted & ~found))
            more = f"{word} in {extra} elements where the oracle has none" if extra else ""
            less = f"no {word} in {lacking} elements where the oracle has it" if lacking else ""
            return ", and ".join(filter(None, (more, less)))
    return None


def not_finite_either(values: np.ndarray, right: Expected, trusted: Iterable[np.ndarray | None]) -> np.ndarray:
    """`values`, with the oracle's wherever that is finite and a trusted implementation has the same infinity, or NaN
    too: in float16 a denominator that underflows leaves no other choice to whoever computes in it."""
    for found in trusted:
        if found is not None and found.shape == values.shape and values.dtype != np.bool_:
            other = widen(found)
            same = (values == other) | (np.isnan(values) & np.isnan(other))
            values = np.where(same & ~np.isfinite(values) & right.finite, right.value, values)
    return values


def measure(values: np.ndarray, right: Expected) -> Errors:
    """Errors over the elements that are finite; for booleans the share of those that differ."""
    if right.scale is None:
        wrong = float(np.mean(values.astype(bool) != right.value)) if values.size else 0.0
        return Errors(wrong, wrong, wrong, wrong)
    if right.all_finite:
        return errors(values, right.value, right.scale)
    clean = np.where(right.finite, values, 0.0)
    return errors(clean, np.where(right.finite, right.value, 0.0), right.scale)


def _finite(error: float) -> float:
    """JSON has no infinity."""
    return min(error, 1e308)
