"""Parts `capture` and `counters`: PyTorch's profiler over training steps, and Nsight Compute over one kernel."""

from __future__ import annotations

from autoresearch_lab.bench.samples import BOTH
from autoresearch_lab.campaign.gpu.result import Benched, CallFound, Counted, DeviceKernel, RangeTime, Traced
from autoresearch_lab.campaign.gpu.setting import Setting
from autoresearch_lab.campaign.gpu.training import ShortTraining, choose, short_training
from autoresearch_lab.campaign.steps import StepFailed, TimeBox
from autoresearch_lab.profile.run import newest_workloads
from autoresearch_lab.results.trace import KernelTime, TargetTime
from autoresearch_lab.trace import chrome, launch, ncu
from autoresearch_lab.trace.attribute import attribute
from autoresearch_lab.trace.deep import choose_workload, one_call
from autoresearch_trainer.probe.steps import backward_of

TRACE = "trace.json.gz"


def capture(setting: Setting, box: TimeBox) -> Traced:
    """The time on the device under every call of a target, forward and backward; attributed as `trace-profile` does."""
    chosen = choose(setting)
    path = setting.out / TRACE
    request = ShortTraining.of(setting, chosen.kernels, setting.work / "capture", trace=path)
    steps = short_training(setting, request, box).require().json()["steps"]
    measured = attribute(chrome.read(path, on_gpu=not setting.rehearse), steps)
    found = told(measured.steps, measured.device_ms, measured.targets, measured.kernels)
    return without_times(found) if setting.rehearse else found


def told(steps: int, device_ms: float, targets: list[TargetTime], kernels: list[KernelTime]) -> Traced:
    """What the suite reports of an attribution: microseconds per step, forward (or optimizer) and backward apart."""
    ranges: dict[str, RangeTime] = {}
    for row in targets:
        calls = row.calls_per_step
        ranges[row.target] = RangeTime(calls=calls, us=1e3 * (row.forward_ms + row.optimizer_ms))
        if row.backward_ms:
            ranges[backward_of(row.target)] = RangeTime(calls=calls, us=1e3 * row.backward_ms)
    return Traced(
        steps=steps,
        ranges=dict(sorted(ranges.items(), key=lambda pair: -(pair[1].us or 0.0))),
        kernels=[DeviceKernel(name=kernel.name, us=1e3 * kernel.ms) for kernel in kernels],
        total_us=1e3 * device_ms,
    )


def without_times(found: Traced) -> Traced:
    """Of a rehearsal."""
    ranges = {name: row.model_copy(update={"us": None}) for name, row in found.ranges.items()}
    kernels = [kernel.model_copy(update={"us": None}) for kernel in found.kernels]
    return found.model_copy(update={"ranges": ranges, "kernels": kernels, "total_us": None})


def worst(benched: Benched | None) -> CallFound | None:
    """The benched call, forward or backward, whose kernel loses most time per step against the ceiling; None where
    there is none. Not the one with the least share: that would always be a call too small to matter."""
    rows = [row for about in (benched.root if benched else {}).values() for row in about.rows]
    known = [row for row in rows if row.direction != BOTH and row.share_of_ceiling.get(row.kernel)]
    return max(known, key=_lost, default=None)


def _lost(row: CallFound) -> float:
    """Microseconds per step above the least that the ceiling allows."""
    share = row.share_of_ceiling[row.kernel] or 0.0
    return (1 - share) * row.microseconds[row.kernel] * row.calls_per_step


def counters(setting: Setting, box: TimeBox) -> Counted:
    """Of the worst kernel.

    Raises LabError or LabFailure where there is no ncu or it may not read the counters, StepFailed where nothing was
    benched.
    """
    program = launch.find("ncu", "counters")
    row = worst(setting.found(Benched))
    if row is None:
        raise StepFailed("no kernel was benched, so there is no worst one")
    target = setting.catalog[row.target]
    if setting.context is None:
        raise StepFailed("a rehearsal has no GPU to measure")
    captured = newest_workloads(target.name, setting.lab)
    if captured is None:
        raise StepFailed(f"no captured calls of {target.name}")
    engine, workload = setting.context.engine, choose_workload(target, captured, row.workload)
    kernel = target.kernel(row.kernel, engine.framework)
    folder = setting.work / "counters"
    args = one_call(target, kernel, captured, workload, folder)
    launches = ncu.measure(program, engine, args, run_dir=folder, seconds=max(1.0, box.left))
    return Counted(kernel=f"{row.target}={row.kernel}", workload=row.workload, launches=launches)
