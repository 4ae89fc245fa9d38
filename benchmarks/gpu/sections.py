"""The sections of docs/gpu-results.md: lines of Markdown from what the parts found."""

from __future__ import annotations

from collections.abc import Sequence

from autoresearch_lab.campaign.gpu.formats import gain, outcomes, percent, ratio
from autoresearch_lab.campaign.gpu.result import (
    Benched,
    BigRows,
    CallFound,
    Counted,
    GpuResult,
    GpuTests,
    Tested,
    Traced,
    Trained,
    Verified,
)

NOT_YET = "not yet measured"
KERNELS = """\
Median us per call, caches cold; *graph*: the same as replayed CUDA graphs, taken of calls under 100 us. *Share*:
the least time that a measured ceiling of this machine allows / the time. For what is bound by memory that ceiling is
the bandwidth of a copy, half of it read and half written (what mostly reads can exceed it); for the rest it is the rate
of matrix products. *Arm / kernel*: time of the arm / time of the kernel with the bench's interval, above 1 where the
kernel is faster. The verdict is on all calls of a training step together, against the one of baseline and compiled
baseline that the kernel is less surely ahead of."""
TRAINING = """\
One run per arm, compiled, the same tokens and seed; no interval. The batch is what fits, so its calls are larger
than those timed above. The A/B that `promote` asks for does not fit into the two calls, so the kernels are not promoted
ones, but chosen by this rule: {rule}. They are: {names}."""
ROWS = """\
The logits of `upstream` are 262,144 x 8,192 elements, 2^31: rows drawn at the start, around the 2^31st element and at
the end against float64, forward and backward:"""
CAPTURE = "Device time per step under each target's calls, without the targets inside (uncompiled, PyTorch's profiler)."


def kernels(result: GpuResult) -> list[str]:
    """The table kernel x arm x call, one table per kernel."""
    told, right = result.found(Benched), result.found(Verified)
    benched = told.root if told else {}
    unjudged = {name: about for name, about in (right.root if right else {}).items() if name not in benched}
    if not benched and not unjudged:
        return [NOT_YET]
    lines = KERNELS.splitlines()
    missing = []
    for name, about in sorted(benched.items()):
        if not about.rows or about.overall is None:
            missing.append(f"- {name}: {about.verdict or NOT_YET}, {about.reason or 'no times'}")
            continue
        overall = about.overall
        lines += ["", f"### `{name}`: {about.verdict or '-'}, x{ratio(overall)} against {overall.to_beat}", ""]
        lines += columns("call", "direction", "arm", "us", "graph", "share", "of", "arm / kernel")
        lines += [cells(one) for row in about.rows for one in _arms(row)]
    for name, right_now in sorted(unjudged.items()):
        missing.append(f"- {name}: {NOT_YET}, verify: {right_now.verdict or right_now.reason or '-'}")
    return [*lines, *(["", *missing] if missing else [])]


def _arms(row: CallFound) -> list[tuple[str, ...]]:
    """A call's cells, an arm each, the kernel last."""
    shapes = " ".join("x".join(map(str, shape)) or "scalar" for shape in row.shapes[:2])
    # Calls may differ in scalars alone, a window for instance: the end of the workload's id tells them apart.
    call = f"{shapes}, {row.workload.rpartition('-')[2]}"
    graphs = row.replayed
    lines: list[tuple[str, ...]] = []
    for arm in sorted(row.microseconds, key=lambda arm: arm == row.kernel):
        share = row.share_of_ceiling.get(arm)
        lines.append(
            (
                *(call, row.direction, f"**{arm}**" if arm == row.kernel else arm),
                *(f"{row.microseconds[arm]:.1f}", f"{graphs[arm]:.1f}" if arm in graphs else "-"),
                *(percent(share), row.ceiling or "-", ratio(row.against.get(arm))),
            )
        )
    return lines


def training(result: GpuResult) -> list[str]:
    """The arms' speed, memory, MFU and val_bpb."""
    trained = result.found(Trained)
    if trained is None:
        return [NOT_YET]
    names = ", ".join(trained.chosen) or "none"
    lines = TRAINING.format(rule=trained.rule, names=names).splitlines()
    lines += ["", *columns("", "tokens/s", "peak memory", "MFU, measured", "MFU, stated", "val_bpb")]
    for arm, one in trained.arms.items():
        mfu = (one.mfu_measured_percent, one.mfu_datasheet_percent)
        lines.append(
            cells(
                (
                    *(arm, f"{one.tokens_per_second:,.0f}" if one.tokens_per_second else "-"),
                    f"{one.peak_vram_mb:,.0f} MiB" if one.peak_vram_mb is not None else "-",
                    *("-" if points is None else f"{points:.1f} %" for points in mfu),
                    f"{one.val_bpb:.4f}" if one.val_bpb is not None else "-",
                )
            )
        )
    if words := gain(trained):
        lines += ["", f"With the kernels against without: {words}."]
    lines += ["", *(f"- {name}: left out, {why}" for name, why in trained.left_out.items())]
    return lines + [f"- {arm}: failed, {why}" for arm, why in trained.failed.items()]


def capture(result: GpuResult) -> list[str]:
    """Device time under the calls of the targets."""
    traced = result.found(Traced)
    if traced is None:
        return [NOT_YET]
    rows = [(name, f"{row.calls:.0f}", f"{row.us or 0.0:.0f}") for name, row in traced.ranges.items()]
    return [CAPTURE, "", *columns("range", "calls", "us"), *map(cells, rows)]


def counters(result: GpuResult) -> list[str]:
    """Nsight Compute's readings of the call that loses most time against its ceiling, a launch each."""
    read = result.found(Counted)
    if read is None:
        return [NOT_YET]
    names = list(dict.fromkeys(name for launch in read.launches for name in launch))
    rows = [[str(launch.get(name, "-")) for name in names] for launch in read.launches]
    call = f"{read.kernel} on {read.workload}"
    about = f"{call}, the call that loses most time per step against its ceiling; one row per launch."
    return [about, "", *columns(*names), *map(cells, rows)]


def tests(result: GpuResult) -> list[str]:
    """How many of the tests that need a GPU passed, and which failed."""
    tested = result.found(GpuTests)
    if tested is None:
        return [NOT_YET]
    return _counted(f"`tests/gpu`: {outcomes(tested)}.", tested)


def rows(result: GpuResult) -> list[str]:
    """What came of arrays of 2^31 elements and more."""
    tested = result.found(BigRows)
    return [NOT_YET] if tested is None else _counted(f"{ROWS} {outcomes(tested)}.", tested)


def _counted(line: str, tested: Tested) -> list[str]:
    return [line, "", *(f"- {failed}" for failed in tested.lines)] if tested.lines else [line]


def columns(*names: str) -> list[str]:
    """Head of a Markdown table."""
    return [cells(names), "|---" * len(names) + "|"]


def cells(values: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(value.replace("|", "\\|") for value in values) + " |"
