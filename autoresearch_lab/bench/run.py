"""`bench`: the whole procedure, from a verified kernel to a ledger record."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from autoresearch_common.hashing import file_sha256, json_sha256
from autoresearch_lab.bench import samples
from autoresearch_lab.bench.analysis import prediction
from autoresearch_lab.bench.inputs import job_workloads, weights, write_inputs
from autoresearch_lab.bench.measure import Arm, TimingBed, ask
from autoresearch_lab.bench.possible import check_possible
from autoresearch_lab.bench.rule import BUDGET_SECONDS, Rule
from autoresearch_lab.bench.session import BenchSession
from autoresearch_lab.catalog import Kernel, Target, load_catalog
from autoresearch_lab.ceilings import ceilings
from autoresearch_lab.engine import Engine, cannot_compile
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.evidence import Subject, newest_profile
from autoresearch_lab.jobs import SAMPLES, about
from autoresearch_lab.lab import Lab
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import writable_folder
from autoresearch_lab.profile.rank import floor_ms
from autoresearch_lab.promote.selection import resolve
from autoresearch_lab.results.base import Artifact, Ceilings
from autoresearch_lab.results.bench import BenchRule, BenchSeeds, BenchSettings
from autoresearch_lab.results.record import BenchRecord, VerifyRecord
from autoresearch_lab.sandbox.compiled import keep
from autoresearch_lab.sandbox.confine import discard_scratch
from autoresearch_lab.workloads import WorkloadSet
from autoresearch_trainer.jobs import Report
from autoresearch_trainer.jobs.timing import OUTPUTS
from autoresearch_trainer.process import usable_cores

# The folder in which the processes run, one after the other.
PROCESS = "process"


def bench(
    kernel: Kernel,
    target: Target,
    workload_set: WorkloadSet,
    lab: Lab,
    *,
    budget_seconds: float = BUDGET_SECONDS,
    seed: int | None = None,
    run_dir: Path,
    rule: Rule | None = None,
    compiled_arm: bool | None = None,
    on_progress: Report | None = None,
) -> BenchRecord:
    """Time `kernel` against the baseline, the baseline again, the library's kernels and what the trainer uses now, and
    append the record.

    Fresh processes are added until the rule decides or `budget_seconds` are used up; the first look (four processes) is
    always taken. compiled_arm: whether to time through torch.compile as well (default: see `compiles`). on_progress
    gets {"about", "process", "processes", "stage", "done", ...}, and once {"expected": seconds that it takes at least}.

    Raises:
        LabError: the kernel has not passed verification on these workloads here, or cannot be loaded.
        LabFailure: the measurement failed or cannot be believed; nothing is recorded then.
    """
    tell = about(f"bench {target.name}={kernel.name}", on_progress)
    verified = require_verified(kernel, target, workload_set, lab)
    rule = rule or Rule()
    seed = secrets.randbits(31) if seed is None else seed
    rng = np.random.default_rng(seed)
    run_dir = writable_folder(Path(run_dir), "bench")
    catalog = load_catalog(lab.root)
    running = resolve("promoted", catalog, lab.context, lab.root).running(target.name)
    compiled, without = compiles(target, lab.context.engine, compiled_arm)
    without |= {
        library.name: "made by Inductor, as the compiled baseline is, and slow to compile"
        for library in target.with_role("library", lab.context.engine.framework, lab.context.engine.device)
        if not worth_an_arm(library, lab.context.engine)
    }
    chosen = choose_arms(kernel, target, lab.context, running, compiled)
    workloads = job_workloads(target, workload_set, rng)
    inputs = run_dir / "inputs.safetensors"
    write_inputs(inputs, target, workload_set, rng)
    try:
        trusted = _trusted(chosen)
        kept = _kept(trusted, workload_set, lab)
        bed = TimingBed(lab.context.engine, target, workloads, inputs, run_dir / PROCESS, kept=kept)
        ahead = _compile_first(bed, trusted, kept, tell) if compiled else []
        session = BenchSession(bed, chosen, weights(workload_set), tell, without)
        outcome = session.run(rule, budget_seconds, rng)
        arms = session.arms  # those that could be timed
        limits, remarks = check_ceilings(session, lab)
    finally:
        inputs.unlink(missing_ok=True)  # tens of megabytes, and made again from the seed and the captured samples
        discard_scratch(run_dir / PROCESS)
    path = run_dir / SAMPLES
    samples.save(path, [arm.recorded().model_dump() for arm in arms], workloads, session.processes)
    profile = newest_profile(lab, target=target.name, workloads=workload_set.sha256)
    standing = {name: one.id for name, one in running.items()}
    of_standing = newest_profile(lab, target=target.name, workloads=workload_set.sha256, running=standing)
    if session.place("standing") is None and any(arm.role == "standing" for arm in chosen):
        of_standing = None  # it could not be timed
    results = outcome.results
    results.least_ms = floor_ms(target, workload_set.workloads, catalog, limits)
    results.predicted = prediction(of_standing.results if of_standing else None, target.name, outcome.in_use)
    if profile and not of_standing:
        remarks.append("no prediction: no profile here was taken with the kernels in use (profile --kernels promoted)")
    if left := sorted({name for process in session.processes for name in process.left}):
        remarks.append(f"a kernel started processes and left them behind: {', '.join(left)}")
    results.remarks += ahead + remarks
    return lab.ledger.append(
        BenchRecord,
        **lab.context.fields(),
        target=target.name,
        kernel=kernel.id,
        workloads=workload_set.record_field(profile.id if profile else None),
        seeds=BenchSeeds(bench=seed, processes=[process.seed for process in session.processes]),
        settings=BenchSettings(
            contract_sha256=target.contract_sha256,
            verify=verified.id,
            ceilings=limits.record,
            baseline=arms[0].recorded(),
            libraries=[arm.recorded() for arm in arms if arm.role == "library"],
            standing=standing,
            budget_seconds=budget_seconds,
            rule=BenchRule(**rule.plain()),
            not_enforced=list(session.processes[0].unenforced),
        ),
        results=results,
        verdict=outcome.verdict,
        artifacts=[Artifact(path=lab.root.relative(path), sha256=file_sha256(path))],
    )


def compile_ahead(
    kernel: Kernel, target: Target, workload_set: WorkloadSet, lab: Lab, run_dir: Path, seconds: float
) -> int:
    """Have a process without `kernel` compile what a bench of it is measured beside, and keep that for this bench (see
    `sandbox.compiled`); how many files. Several may do that at once: no time is taken. seconds: that it may take.

    Raises:
        LabError, LabFailure: that process failed; the bench will say more.
    """
    compiled, _ = compiles(target, lab.context.engine)
    arms = _trusted(choose_arms(kernel, target, lab.context, {}, compiled))
    kept = _kept(arms, workload_set, lab)
    if kept.exists() or not (compiled or lab.context.engine.device == "cuda"):  # a GPU's libraries are compiled anyway
        return 0
    rng = np.random.default_rng(0)
    inputs = writable_folder(run_dir, "bench") / "inputs.safetensors"
    write_inputs(inputs, target, workload_set, rng)
    try:
        workloads = job_workloads(target, workload_set, rng)
        bed = TimingBed(lab.context.engine, target, workloads, inputs, run_dir / PROCESS, seconds, kept)
        return _compile(bed, arms, kept)
    finally:
        inputs.unlink(missing_ok=True)
        discard_scratch(run_dir / PROCESS)


def _compile_first(bed: TimingBed, trusted: Sequence[Arm], kept: Path, tell: Report | None) -> list[str]:
    """`_compile`, unless an earlier bench of these calls did; what to say of it."""
    if kept.exists():
        return []
    if tell is not None:
        tell({"stage": "compiling what it is measured beside"})
    began = time.monotonic()
    try:
        _compile(bed, trusted, kept)
    except (LabError, LabFailure):
        return []  # the first process will say more
    seconds = time.monotonic() - began
    return [f"a process without the candidate took {seconds:.1f} s to compile what it is measured beside"]


def _compile(bed: TimingBed, trusted: Sequence[Arm], kept: Path) -> int:
    """Have a process with nothing but these arms compile them, and keep that; how many files."""
    try:
        brief = replace(bed, least_rounds=1)
        ask(brief, trusted, seconds=0.0, seed=0, calls=[1] * len(bed.workloads))
        return keep(bed.run_dir, kept)
    finally:
        (bed.run_dir / OUTPUTS).unlink(missing_ok=True)


def _trusted(arms: Sequence[Arm]) -> list[Arm]:
    """Those that are no candidates and never were."""
    return [arm for arm in arms if arm.role in ("baseline", "library")]


def _kept(arms: Sequence[Arm], workload_set: WorkloadSet, lab: Lab) -> Path:
    """Where the compiled code of a process with just these arms is kept."""
    kernels = [[arm.kernel.target, arm.kernel.sha256, arm.compiled] for arm in arms]
    threads = [os.environ.get("OMP_NUM_THREADS"), usable_cores()]
    key = json_sha256([kernels, workload_set.sha256, lab.context.keys(), threads])
    return lab.root.results / "compiled" / key[:32]


def check_ceilings(session: BenchSession, lab: Lab) -> tuple[Ceilings, list[str]]:
    """(the machine's ceilings, remarks). A time below what they allow is refused, but not on the word of ceilings that
    were measured while the machine was busy: they are measured once more first.

    Raises:
        LabFailure: "impossible".
    """
    known = ceilings(lab)
    try:
        return known, check_possible(session, known)
    except LabFailure:
        known = ceilings(lab, fresh=True)
        return known, check_possible(session, known)


def require_verified(kernel: Kernel, target: Target, workload_set: WorkloadSet, lab: Lab) -> VerifyRecord:
    """The newest verification that speaks for this kernel on these workloads; it has to be a PASS.

    Raises:
        LabError: there is none, or the kernel failed.
    """
    subject = Subject(target, kernel, workload_set.sha256, lab.context)
    record = subject.latest(lab.ledger, VerifyRecord)
    if record is None:
        name = f"{target.name}/{kernel.name} ({kernel.sha256[:12]})"
        if stale := subject.not_counted(lab.ledger, VerifyRecord):
            old, why = stale
            raise LabError(f"{name}: its {old.verdict} of {old.time[:10]} does not count here: {why}; run verify again")
        raise LabError(f"{name} has not been verified on these workloads here; run verify first")
    if record.verdict != "PASS":
        raise LabError(f"{target.name}/{kernel.name} failed verification ({record.id[:12]}): wrong is not timed")
    return record


def compiles(target: Target, engine: Engine, asked: bool | None = None) -> tuple[bool, dict[str, str]]:
    """(whether arms go through torch.compile, {arm that is left out: why}). Unless asked, they do on a GPU, and on a
    CPU those of what the trainer compiles, the model, and of targets that are composed of others."""
    wanted = engine.device == "cuda" or target.contract.phase == "forward" or bool(target.contract.replaces)
    if engine.framework != "torch" or not (wanted if asked is None else asked):
        return False, {}
    obstacle = cannot_compile(engine)
    return (True, {}) if obstacle is None else (False, {"the compiled baseline": obstacle})


def worth_an_arm(library: Kernel, engine: Engine) -> bool:
    """Whether a library's kernel is one. On a CPU, where compiling takes longer than timing, not what is made by
    Inductor: of the same formula it makes the compiled baseline, where the trainer compiles at all."""
    return engine.device != "cpu" or library.language != "inductor"


def choose_arms(
    kernel: Kernel, target: Target, context: Context, running: Mapping[str, Kernel], compiled: bool
) -> list[Arm]:
    """Baseline, baseline again, the library's kernels except the candidate itself, what the trainer runs now
    (`running`) where that is neither baseline nor candidate, candidate: in this order.

    compiled: the trainer runs compiled, so the compiled baseline stands among the library's kernels. Of a target of the
    model, what the trainer runs now and the candidate are compiled as well; the optimizer never is.
    """
    engine = context.engine
    baseline = target.baseline(engine.framework, engine.device)
    libraries = target.with_role("library", engine.framework, engine.device)
    libraries = [each for each in libraries if each.sha256 != kernel.sha256 and worth_an_arm(each, engine)]
    in_graph = compiled and target.contract.phase == "forward"
    parts = {name: one for name, one in running.items() if name != target.name and one.role != "baseline"}
    used = running.get(target.name, baseline)
    stands = (parts or used.role != "baseline") and used.sha256 != kernel.sha256
    return [
        Arm("baseline", baseline),
        Arm("control", baseline),
        *(Arm("library", library) for library in libraries),
        *([Arm("library", baseline, compiled=True)] if compiled else []),
        *([Arm("standing", used, parts=parts)] if stands else []),
        *([Arm("standing", used, parts=parts, compiled=True)] if stands and in_graph else []),
        *([Arm("graph", kernel, compiled=True)] if in_graph else []),
        Arm("candidate", kernel),
    ]
