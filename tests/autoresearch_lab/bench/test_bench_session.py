"""The sequence of looks, the sums, and everything that forbids a FASTER, on an engine that "measures" planted times."""

import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoresearch_common.arrays import write_arrays
from autoresearch_lab.bench import samples
from autoresearch_lab.bench.analysis import prediction
from autoresearch_lab.bench.checks import check_outputs, output_name
from autoresearch_lab.bench.measure import Arm, TimingBed
from autoresearch_lab.bench.possible import check_possible
from autoresearch_lab.bench.rule import Rule
from autoresearch_lab.bench.session import BenchSession
from autoresearch_lab.bench.table import _directions
from autoresearch_lab.catalog import find_target, load_catalog
from autoresearch_lab.ceilings import highest
from autoresearch_lab.errors import LabFailure
from autoresearch_lab.paths import Root
from autoresearch_lab.results.base import Ceilings
from autoresearch_lab.results.profile import ProfileResults, TargetTimes
from autoresearch_lab.sandbox.parent import JobFailed
from autoresearch_lab.statistics import Interval
from autoresearch_trainer.jobs import AnswerRefused
from autoresearch_trainer.jobs.timing import TimeAnswer

RULE = Rule(resamples=300)
SLOW_MACHINE = Ceilings(copy_gb_s=[(64, 1e-6)], matmul_gflop_s={"float32": 1.0})
FAST_MACHINE = Ceilings(copy_gb_s=[(64, 50.0), (4096, 20.0)], matmul_gflop_s={"float32": 100.0})
SHAPE = [4, 8]
SPEC = {"name": "x", "kind": "array", "dtype": "float32", "shape": SHAPE, "strides": [8, 1], "grad": True}
WORKLOADS = [
    {"id": "relu_squared-0000000a", "args": [SPEC], "gradient": True, "shifts": [1, 2, 3]},
    {"id": "relu_squared-0000000b", "args": [SPEC], "gradient": False, "shifts": [1, 2, 3]},
]


@dataclass
class PlantedEngine:
    """Answers the job `time` with times of 1 ms forward and 2 ms backward over `speed` (per arm, or per workload and
    arm), plus noise. `changes` overwrites parts of the answer; `outputs` changes what timed calls are said to give."""

    speed: dict[int, float] = field(default_factory=dict)
    workload_speed: dict[tuple[int, int], float] = field(default_factory=dict)
    noise: float = 0.005
    changes: dict[str, Any] = field(default_factory=dict)
    spoil: Any = None
    device: str = "cpu"
    framework: str = "torch"
    calls: int = 0
    # Fails where one of the arms has such a name.
    unable: str | None = None

    def run(self, job, args, **options):
        try:
            return job.read(self.perform(job.name, args.model_dump(mode="json"), **options))
        except AnswerRefused as error:
            raise JobFailed("protocol", str(error)) from None

    def perform(self, job, args, *, run_dir: Path, limits=None, modules=(), variables=None, on_progress=None):
        assert job == "time" and limits.confined
        # Slow calls may take long, silence may not.
        assert limits.quiet_seconds < 600 < limits.seconds
        self.calls += 1
        if any(arm["name"] == self.unable for arm in args["arms"]):
            raise JobFailed("exception", f"time: {self.unable} cannot do this")
        rng = np.random.default_rng(args["seed"])
        rounds, arms, places = 10, len(args["arms"]), len(args["workloads"])
        times = np.exp(rng.normal(0, self.noise, (rounds, 2, arms, places, 2))) * [1e6, 2e6]
        for arm in range(arms):
            times[:, :, arm] /= self.speed.get(arm, 1.0)
            for place in range(places):
                times[:, :, arm, place] /= self.workload_speed.get((place, arm), 1.0)
        for place, workload in enumerate(args["workloads"]):
            if not workload["gradient"]:
                times[:, :, :, place, 1] = 0.0
        on_progress({"stage": "measure"})
        began = time.monotonic()
        time.sleep(0.01)
        span = time.monotonic() - began
        on_progress({"stage": "measured"})
        run_dir.mkdir(parents=True, exist_ok=True)
        write_arrays(run_dir / "outputs.safetensors", self._outputs(rng, arms, args["workloads"]))
        clean = {"calls": 40, "aside": 0, "samples": 20, "unclean": 0}
        orders = [
            [[place, [int(arm) for arm in rng.permutation(arms)]] for place in rng.permutation(places).tolist()]
            for _ in range(rounds)
        ]
        return {
            "samples": times.tolist(), "clean": np.ones(times.shape[:-1], bool).tolist(), "orders": orders,
            "foreign_load": [0.0] * rounds, "calls": [1] * places,
            "disturbed": [clean] * arms, "span_seconds": span, "timed_seconds": 0.005, "window_ns": 50.0,
            "first_call_ms": [[1.0] * places] * arms, "peak_bytes": [[1024] * places] * arms,
            "load_average": [0.0, 0.0, 0.0], "process": {"threads": 2}, **self.changes,
        }  # fmt: skip

    def _outputs(self, rng, arms, workloads):
        found = {}
        for arm in range(arms):
            for place, workload in enumerate(workloads):
                for number in range(2 if workload["gradient"] else 1):
                    value = rng.normal(size=8).astype(np.float32)
                    for kind in ("timed", "again", "reference"):
                        found[f"{kind}/{arm}/{place}/0/{number}"] = value
        if self.spoil:
            self.spoil(found)
        return found


@pytest.fixture(scope="session")
def target():
    return find_target(load_catalog(Root()), "relu_squared")


@pytest.fixture
def session(target, tmp_path):
    """A function (engine, role of a middle arm or None) -> BenchSession with weights 2 and 1."""

    def make(engine: PlantedEngine, library: bool = False) -> BenchSession:
        kernel = target.kernel("torch_eager", "torch")
        roles = ["baseline", "control", *(["library"] if library else []), "candidate"]
        arms = [Arm(role, kernel) for role in roles]
        return BenchSession(TimingBed(engine, target, WORKLOADS, tmp_path / "inputs", tmp_path), arms, [2.0, 1.0])

    return make


def run(session, budget=60.0):
    return session.run(RULE, budget, np.random.default_rng(0))


def test_a_clear_winner_stops_at_the_first_look(session):
    engine = PlantedEngine(speed={2: 1.5})
    outcome = run(session(engine))
    assert outcome.verdict == "FASTER" and engine.calls == 4
    assert outcome.ratio.point == pytest.approx(1.5, rel=0.02)
    assert outcome.results.directions["backward"].ratio == pytest.approx(1.5, rel=0.02)
    assert outcome.results.direction == "both"
    json.dumps(outcome.results.plain(), allow_nan=False)


def test_a_library_that_cannot_run_is_left_out_and_named(session, target):
    from_elsewhere = replace(target.kernel("torch_library", "torch"), name="elsewhere")
    own = session(PlantedEngine(speed={3: 1.5}, unable="elsewhere"), library=True)
    own.arms.insert(3, Arm("library", from_elsewhere))
    outcome = run(own)
    assert [arm.role for arm in own.arms] == ["baseline", "control", "library", "candidate"]
    assert outcome.verdict == "FASTER" and list(outcome.results.left_out) == ["elsewhere"]
    assert "elsewhere is not among the arms: time: elsewhere cannot do this" in outcome.results.remarks
    assert [entry.name for entry in outcome.results.libraries] == ["torch_eager"]


def test_a_candidate_that_cannot_run_is_not_helped_by_leaving_out_libraries(session, target):
    own = session(PlantedEngine(unable="broken"), library=True)
    own.arms[-1] = Arm("candidate", replace(own.arms[-1].kernel, name="broken"))
    with pytest.raises(LabFailure, match="broken cannot do this"):
        run(own)
    assert own.left_out == {}


def test_both_arms_of_the_baseline_are_what_a_candidate_is_held_against(session):
    outcome = run(session(PlantedEngine(speed={1: 1.21, 2: 2.0})))
    assert outcome.ratio.point == pytest.approx(2.0 / 1.1, rel=0.01)
    assert outcome.results.control.ratio == pytest.approx(1.21, rel=0.01)


def test_a_null_goes_through_all_looks_and_is_never_faster(session):
    engine = PlantedEngine(noise=0.05)
    outcome = run(session(engine))
    assert outcome.verdict in ("AMBIGUOUS", "SAME") and engine.calls in (4, 8, 16)


def test_a_loser_is_slower(session):
    assert run(session(PlantedEngine(speed={2: 0.8}))).verdict == "SLOWER"


def test_the_budget_ends_the_looks_but_never_before_the_first(session):
    engine = PlantedEngine(noise=0.3)
    outcome = run(session(engine), budget=0.001)
    assert engine.calls == 4 and outcome.results.looks == 1


def test_how_long_it_takes_is_said_once_after_the_first_process(session):
    own, told = session(PlantedEngine(noise=0.3)), []
    own.on_progress = lambda message: told.append((message, len(own.processes)))
    own.run(RULE, 0.001, np.random.default_rng(0))
    expected = [(message["expected"], done) for message, done in told if "expected" in message]
    assert [done for _, done in expected] == [1]
    assert 4 * 0.01 <= expected[0][0] < 60


def test_workloads_count_as_often_as_a_step_calls_them(session):
    # 2 x (1 + 2) ms + 1 x 1 ms = 7 ms; the first workload three times as fast: 2 + 1 = 3 ms.
    outcome = run(session(PlantedEngine(workload_speed={(0, 2): 3.0})))
    assert outcome.ratio.point == pytest.approx(7 / 3, rel=0.02)
    assert outcome.results.directions["forward"].ratio == pytest.approx(3 / (2 / 3 + 1), rel=0.02)


def test_a_workload_that_is_surely_slower_forbids_faster(session):
    outcome = run(session(PlantedEngine(workload_speed={(0, 2): 3.0, (1, 2): 0.8})))
    assert outcome.verdict == "AMBIGUOUS" and "relu_squared-0000000b is slower" in outcome.results.reason


def test_the_library_is_compared_too(session):
    outcome = run(session(PlantedEngine(speed={2: 2.0, 3: 1.5}), library=True))
    assert outcome.verdict == "FASTER"
    assert outcome.results.library.ratio == pytest.approx(0.75, rel=0.02)
    assert outcome.results.library.baseline_ratio == pytest.approx(2.0, rel=0.02)
    assert outcome.results.beats_library is False
    for row in outcome.results.workloads:
        for about in row.directions.values():
            (rival,) = about.library_ratios
            assert rival.ratio == pytest.approx(0.75, rel=0.02)
            assert rival.interval[0] <= rival.ratio <= rival.interval[1] < 1


@pytest.mark.parametrize(
    ("compiled", "candidate", "verdict", "against", "ratio"),
    [
        (1.3, 2.0, "FASTER", "torch_eager (compiled)", 1.54),
        (2.0, 1.5, "SLOWER", "torch_eager (compiled)", 0.75),
        (1.5, 1.5, "AMBIGUOUS", "torch_eager (compiled)", 1.0),
        (0.5, 1.5, "FASTER", "torch_eager", 1.5),
    ],
)
def test_the_compiled_baseline_is_an_arm_to_beat(session, target, compiled, candidate, verdict, against, ratio):
    own = session(PlantedEngine(speed={2: compiled, 3: candidate}), library=True)
    own.arms[2] = Arm("library", target.kernel("torch_eager", "torch"), compiled=True)
    outcome = run(own)
    assert outcome.verdict in (verdict, "SAME" if verdict == "AMBIGUOUS" else verdict)
    assert outcome.results.against == against and outcome.ratio.point == pytest.approx(ratio, rel=0.02)
    assert outcome.results.reason.startswith("against torch_eager (compiled): ") is (against != "torch_eager")
    assert outcome.results.directions["both"].ratio == pytest.approx(candidate, rel=0.02)
    assert outcome.results.process_ratios == pytest.approx([ratio] * len(outcome.results.rounds), rel=0.02)


def test_a_call_that_only_the_compiled_baseline_does_faster_forbids_a_win(session, target):
    own = session(PlantedEngine(workload_speed={(0, 2): 1.0, (0, 3): 3.0, (1, 2): 2.0, (1, 3): 1.5}), library=True)
    own.arms[2] = Arm("library", target.kernel("torch_eager", "torch"), compiled=True)
    outcome = run(own)
    assert outcome.verdict == "AMBIGUOUS" and "relu_squared-0000000b is slower" in outcome.results.reason


def test_a_baseline_that_differs_from_itself_raises_the_bar(session):
    outcome = run(session(PlantedEngine(speed={1: 1.2, 2: 1.1})))
    assert outcome.verdict == "AMBIGUOUS" and outcome.results.floor > 1.15
    assert any("differs from itself" in remark for remark in outcome.results.remarks)


@pytest.mark.parametrize(
    "changes,reason",
    [
        (
            {
                "foreign_load": [0.9] * 10,
                "disturbed": [{"calls": 40, "aside": 10, "samples": 20, "unclean": 15}] * 3,
            },
            "90% of the machine",
        ),
        (
            {
                "disturbed": [{"calls": 40, "aside": 0, "samples": 20, "unclean": 0}] * 2
                + [{"calls": 40, "aside": 20, "samples": 20, "unclean": 0}]
            },
            "interrupted",
        ),
    ],
)
def test_disturbed_measurements_are_not_believed(session, changes, reason):
    outcome = run(session(PlantedEngine(speed={2: 1.4}, changes=changes)))
    assert outcome.verdict == "AMBIGUOUS" and reason in outcome.results.reason


def test_interruptions_count_alike_whether_repeated_or_kept(session):
    kept = {"calls": 40, "aside": 0, "samples": 20, "unclean": 19}  # a long baseline: interrupted, never repeated
    repeated = {"calls": 40, "aside": 11, "samples": 20, "unclean": 1}
    outcome = run(session(PlantedEngine(speed={2: 1.4}, changes={"disturbed": [kept, kept, repeated]})))
    assert outcome.verdict == "FASTER"
    calm = {"calls": 40, "aside": 0, "samples": 20, "unclean": 0}
    outcome = run(session(PlantedEngine(speed={2: 1.4}, changes={"disturbed": [calm, calm, {**calm, "unclean": 10}]})))
    assert outcome.verdict == "AMBIGUOUS" and "interrupted" in outcome.results.reason


def test_a_clear_win_holds_on_a_busy_machine(session):
    crowd = {"foreign_load": [0.9] * 10, "disturbed": [{"calls": 40, "aside": 10, "samples": 20, "unclean": 15}] * 3}
    outcome = run(session(PlantedEngine(speed={2: 2.0}, changes=crowd)))
    assert outcome.verdict == "FASTER"
    assert any("90% of the machine" in remark for remark in outcome.results.remarks)


class Spinning(PlantedEngine):
    """What runs after the candidate takes `slowed` times as long."""

    def __init__(self, slowed, **options):
        super().__init__(**options)
        self.slowed = slowed

    def perform(self, *args, **kwargs):
        raw = super().perform(*args, **kwargs)
        times = np.array(raw["samples"])
        for number, visited in enumerate(raw["orders"]):
            for place, order in visited:
                sequence = [*order, *reversed(order)]
                for after in range(1, len(sequence)):
                    if sequence[after - 1] == 2 and sequence[after] != 2:
                        times[number, after // 3, sequence[after], place] *= self.slowed
        return {**raw, "samples": times.tolist()}


@pytest.mark.parametrize(("slowed", "speed"), [(1.3, 1.3), (1.3, 4.0), (1.05, 1.4)])
def test_a_candidate_that_slows_its_neighbours_is_not_faster(session, slowed, speed):
    outcome = run(session(Spinning(slowed, speed={2: speed})))
    assert outcome.verdict == "AMBIGUOUS" and "right after it" in outcome.results.reason
    assert outcome.results.disturbance[1] == pytest.approx(slowed, rel=0.05)


def test_a_win_that_is_far_larger_than_what_it_leaves_behind_is_one(session):
    outcome = run(session(Spinning(1.04, speed={2: 2.0})))
    assert outcome.verdict == "FASTER" and outcome.results.looks == 1
    assert outcome.results.disturbance[0] > 1.02


def test_impossible_times_are_refused_and_unknown_ceilings_said(session):
    measured = session(PlantedEngine(speed={2: 1.5}))
    run(measured)
    with pytest.raises(LabFailure, match="impossible"):
        check_possible(measured, SLOW_MACHINE)
    assert check_possible(measured, FAST_MACHINE) == []
    # At least 640 us forward, 667 taken; 960 and 2000 in both.
    fair = FAST_MACHINE.model_copy(update={"copy_gb_s": [(64, 4e-4)]})
    assert check_possible(measured, fair) == []
    half = FAST_MACHINE.model_copy(update={"copy_gb_s": [(64, 2e-4)]})
    with pytest.raises(LabFailure, match="impossible"):
        check_possible(measured, half)
    busy = session(PlantedEngine(speed={2: 1.5}, changes={"foreign_load": [0.4] * 10}))
    run(busy)
    assert check_possible(busy, half) == []
    assert "unknown" in check_possible(measured, Ceilings())[0]


def test_of_ceilings_measured_twice_the_higher_ones_count():
    assert highest([FAST_MACHINE, SLOW_MACHINE]) == FAST_MACHINE


@pytest.mark.parametrize("span,timed", [(1.0, 0.005), (0.01, 0.9)])
def test_a_clock_that_disagrees_is_refused(session, span, timed):
    with pytest.raises(LabFailure, match="clocks disagree|of samples in"):
        run(session(PlantedEngine(changes={"span_seconds": span, "timed_seconds": timed})))


def stale(found):
    found["timed/2/0/0/0"] = np.roll(found["timed/2/0/0/0"], 1)


def differs_later(found):
    found["again/2/0/0/1"] = found["again/2/0/0/1"] * 1.01


def not_finite(found):
    found["timed/2/1/0/0"] = np.full_like(found["timed/2/1/0/0"], np.nan)


def missing(found):
    for name in [name for name in found if name.startswith("timed/2/1/")]:
        del found[name]


@pytest.mark.parametrize(
    "spoil,reason",
    [
        (stale, "output y of a timed call differs from the baseline's"),
        (differs_later, "gradient of x of a timed call differs from its own"),
        (not_finite, "differs from the baseline's"),
        (missing, "missing"),
    ],
)
def test_wrong_outputs_of_timed_calls_are_refused(session, spoil, reason):
    with pytest.raises(LabFailure, match=reason):
        run(session(PlantedEngine(speed={2: 1.5}, spoil=spoil)))


class Once:
    """Spoils the answers of these processes, counted from 0, in one arm."""

    def __init__(self, arm: int, *processes: int) -> None:
        self.arm, self.processes, self.count = arm, processes, 0

    def __call__(self, found) -> None:
        if self.count in self.processes:
            found[f"timed/{self.arm}/0/0/0"] = found[f"timed/{self.arm}/0/0/0"] + 1.0
        self.count += 1


@pytest.mark.parametrize("process", [0, 2])
def test_a_librarys_output_that_differs_once_is_taken_again_with_other_contents(session, process):
    spoil = Once(2, process)  # the arms: baseline, control, library, candidate
    engine = PlantedEngine(speed={3: 1.5}, spoil=spoil)
    own = session(engine, library=True)
    assert run(own).verdict == "FASTER"
    assert own.left_out == {} and len(own.processes) == 4
    assert len({found.seed for found in own.processes}) == 4


def test_a_librarys_output_that_differs_again_ends_the_bench(session):
    with pytest.raises(LabFailure, match="library torch_eager: output y of a timed call differs"):
        run(session(PlantedEngine(speed={3: 1.5}, spoil=Once(2, 2, 3)), library=True))


def test_the_candidates_output_gets_no_second_chance(session):
    engine = PlantedEngine(speed={3: 1.5}, spoil=Once(3, 2))
    with pytest.raises(LabFailure, match="candidate torch_eager: output y of a timed call differs"):
        run(session(engine, library=True))
    assert engine.calls == 3


def numbers(timed: float) -> dict[str, np.ndarray]:
    """Outputs of one arm's call with a single gradient, of three contents: two of usual size, and one that cancels."""
    found = {}
    for slot, value in enumerate((10.0, -8.0, 0.05)):
        for kind in ("timed", "again", "reference"):
            found[f"{kind}/0/0/{slot}/1"] = np.array([value], dtype=np.float32)
    return {**found, "timed/0/0/2/1": np.array([timed], np.float32), "again/0/0/2/1": np.array([timed], np.float32)}


def test_a_single_number_that_cancels_is_held_against_the_usual_size(target):
    workload = {**WORKLOADS[0], "args": [{**SPEC, "dtype": "bfloat16"}]}
    check_outputs(numbers(0.08), target, ["baseline"], [workload])
    with pytest.raises(LabFailure, match="gradient of x of a timed call differs"):
        check_outputs(numbers(0.8), target, ["baseline"], [workload])


def test_a_gradient_is_as_coarse_as_the_coarsest_argument(target):
    specs = [{**SPEC, "name": "x", "dtype": "bfloat16"}, {**SPEC, "name": "w", "dtype": "float32"}]
    assert output_name(target, {"args": specs}, 2) == ("gradient of w", "bfloat16")
    assert output_name(target, {"args": specs[1:]}, 1) == ("gradient of w", "float32")
    assert output_name(target, {"args": specs}, 3) == ("an output", "")


def test_an_interrupted_visit_counts_only_where_both_were():
    times = [[[[[1.0, 2.0]], [[1.0, 2.0]]], [[[9.0, 9.0]], [[9.0, 9.0]]]]]  # one round, two visits, two arms
    clean = [[[[True], [False]], [[False], [False]]]]
    process = samples.Process(TimeAnswer.model_construct(samples=times, clean=clean))
    assert process.seconds("forward").ravel() * 1e9 == pytest.approx([1.0, 5.0])
    assert process.seconds("both").ravel() * 1e9 == pytest.approx([3.0, 10.5])


def test_what_disturbs_an_arm_of_the_baseline_does_not_favour_the_candidate():
    """In the mean of its two arms a disturbance is twice as frequent as in the candidate: +0.9 % here."""
    rng = np.random.default_rng(0)
    shape = (40_000, 1, 3, 1, 2)  # (round, visit, arm, workload, direction)
    hit = (rng.random(shape) < 0.2) * rng.exponential(0.5, shape)
    times = 1e6 * np.exp(0.03 * rng.standard_normal(shape) + hit)
    answer = TimeAnswer.model_construct(samples=times, clean=np.ones(shape[:-1]))
    [ratios] = samples.total_ratios([samples.Process(answer)], 0, 2, "forward", [1.0])
    assert len(ratios) == 2 * len(times) and abs(np.median(ratios)) < 0.001
    either = samples.paired_log_ratio(np.sqrt(times[:, 0, 0, 0, 0] * times[:, 0, 1, 0, 0]), times[:, 0, 2, 0, 0])
    assert np.median(either) > 0.005


def test_samples_are_kept_whole(session, tmp_path):
    one = session(PlantedEngine(speed={2: 1.5}))
    run(one)
    path = tmp_path / "samples.json.gz"
    samples.save(path, [arm.recorded().plain() for arm in one.arms], WORKLOADS, one.processes)
    first = path.read_bytes()
    arms, workloads, processes = samples.load(path)
    assert [arm["role"] for arm in arms] == ["baseline", "control", "candidate"] and workloads == WORKLOADS
    assert np.array_equal(processes[0].times, one.processes[0].times)
    samples.save(path, arms, workloads, processes)
    assert path.read_bytes() == first


def within_graphs(session, target, breaks=None, **planted):
    """Arms: baseline, control, compiled baseline, the candidate within a graph, candidate."""
    changes = {"first_call_ms": [[1.0] * 2, [1.0] * 2, [4000.0] * 2, [500.0] * 2, [1.0] * 2],
               "graph_breaks": [None, None, None, breaks, None]}  # fmt: skip
    own = session(PlantedEngine(changes=changes, **planted), library=True)
    kernel = own.arms[0].kernel
    own.arms[2:3] = [Arm("library", kernel, compiled=True), Arm("graph", kernel, compiled=True)]
    return own


@pytest.mark.parametrize(
    ("graph", "breaks", "remark"),
    [
        (1.2, None, "loses to the compiled baseline: fusion (x0."),
        (1.2, "print", "loses to the compiled baseline: graph break (x0."),
        (1.5, None, "is not surely ahead of the compiled baseline: fusion (x"),
        (1.8, None, None),
    ],
)
def test_a_candidate_that_only_loses_in_a_graph_is_told_why(session, target, graph, breaks, remark):
    own = within_graphs(session, target, breaks, speed={2: 1.5, 3: graph, 4: 2.0})
    outcome = run(own)
    found = outcome.results
    assert outcome.verdict == "FASTER" and outcome.ratio.point == pytest.approx(2 / 1.5, rel=0.02)
    assert found.in_graph.ratio == pytest.approx(graph / 1.5, rel=0.02)
    told = [text for text in found.remarks if "compiled baseline" in text]
    assert [text.startswith(remark) for text in told] == [True] if remark else not told
    assert ("graph break in the candidate: print" in found.remarks) is (breaks is not None)
    assert found.compile_seconds == [9.0] * 4
    assert "compiling took 9.0 s in the first process, at most 9.0 s later" in found.remarks
    assert [(arm.role, arm.compiled) for arm in found.arms][2:] == [
        ("library", True), ("graph", True), ("candidate", False)
    ]  # fmt: skip
    assert [arm.ms for arm in found.arms][-1] == pytest.approx(3.5, rel=0.02)


def test_the_table_shows_in_bold_what_decides(session, target):
    found = run(within_graphs(session, target, speed={2: 1.2, 4: 1.5})).results
    table = _directions(found)
    rows = [[str(cell) for cell in row] for row in zip(*(column.cells for column in table.columns), strict=True)]
    bold = [cells for cells, row in zip(rows, table.rows, strict=True) if row.style == "bold"]
    assert found.against.endswith("(compiled)") and [cells[0] for cells in bold] == ["both, against that"]
    assert bold[0][3].startswith("1.25") and bold[0][1] == rows[-2][2]  # the library's time, in the baseline's place


def test_compiling_leaves_the_budget_alone(session, target):
    own = within_graphs(session, target, noise=0.3)
    run(own, budget=1.0)  # 36 s of compiling in the first four processes
    assert len(own.processes) == RULE.looks[-1]


def test_the_prediction_is_of_what_the_trainer_uses_now(session, target):
    own = session(PlantedEngine(speed={2: 1.6, 3: 2.0}), library=True)
    own.arms[2] = Arm("standing", own.arms[0].kernel, parts={"rope": own.arms[0].kernel})
    outcome = run(own)
    assert outcome.ratio.point == pytest.approx(2.0, rel=0.02) and outcome.results.libraries == []
    assert outcome.in_use.point == pytest.approx(1.25, rel=0.02)


def test_an_arm_that_a_bench_can_do_without_is_left_out_and_named(session, target):
    own = session(PlantedEngine(speed={2: 1.5}, unable="broken"), library=True)
    own.arms[2] = Arm("graph", replace(own.arms[0].kernel, name="broken"), compiled=True)
    outcome = run(own)
    assert outcome.verdict == "FASTER" and outcome.results.in_graph is None
    assert "broken (compiled) is not among the arms: time: broken cannot do this" in outcome.results.remarks


def test_the_prediction_is_amdahls_law():
    row = TargetTimes.model_construct(target="rope", total_ms=40.0, saveable_ms=None, impossible=False)
    profile = ProfileResults.model_construct(step_ms=100.0, targets=[row])
    found = prediction(profile, "rope", Interval(1.6, 2.0, 2.5))
    assert found.saved_ms == pytest.approx(20.0) and found.step_speedup == pytest.approx(1.25)
    assert list(found.saved_ms_interval) == pytest.approx([15.0, 24.0])
    # No more than what lies above the floor, unless the floor itself was undercut.
    limited = profile.model_copy(update={"targets": [row.model_copy(update={"saveable_ms": 18.0})]})
    capped = prediction(limited, "rope", Interval(1.6, 2.0, 2.5))
    assert (capped.saved_ms, capped.saveable_ms, list(capped.saved_ms_interval)) == (18.0, 18.0, [15.0, 18.0])
    wrong = profile.model_copy(update={"targets": [row.model_copy(update={"saveable_ms": 0.0, "impossible": True})]})
    assert prediction(wrong, "rope", Interval(1.6, 2.0, 2.5)).saved_ms == pytest.approx(20.0)
    assert prediction(profile, "mlp", Interval(1.6, 2.0, 2.5)) is None
    assert prediction(None, "rope", Interval(1.6, 2.0, 2.5)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": [[[[[1.0, 1.0]]]]]},
        {"samples": []},
        {"orders": [[[0, [0, 1]], [1, [0, 1, 2]]]] * 10},
        {"orders": [[[0, [0, 1, 2]], [7, [0, 1, 2]]]] * 10},
        {"calls": [1]},
        {"first_call_ms": [[1.0]] * 3},
    ],
)
def test_samples_of_another_shape_are_refused_in_words(session, changes):
    with pytest.raises(LabFailure, match="samples of another shape than 3 arms, 2 calls"):
        run(session(PlantedEngine(changes=changes)))


@pytest.mark.parametrize("changes", [{"samples": "fast"}, {"span_seconds": None}, {"verdict": "FASTER"}])
def test_an_answer_that_is_none_is_the_processes_own_fault(session, changes):
    with pytest.raises(LabFailure, match="answer cannot be read"):
        run(session(PlantedEngine(changes=changes)))
