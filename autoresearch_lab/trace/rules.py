"""What a trace profile says by stated rules, without anyone looking at it. The limits are the rules' own, not measured:
they are recorded with every finding, so that a reader can judge them."""

from __future__ import annotations

from autoresearch_lab.results.trace import ReviewFinding, TraceResults
from autoresearch_lab.trace.timeline import MOVES

# Shares of the machine (busy), of the traced steps (idle), and of the device time (the others).
LIMITS = {"busy": 0.20, "idle": 0.20, "unattributed": 0.40, "memory": 0.05, "target": 0.05}
MOST_TARGETS = 5


def findings(profile: TraceResults, on_gpu: bool) -> list[ReviewFinding]:
    """All findings, problems first."""
    return [
        *_busy(profile),
        *_idle(profile, on_gpu),
        *_hidden(profile),
        *_memory(profile),
        *_worth_a_workspace(profile),
    ]


def _busy(profile: TraceResults) -> list[ReviewFinding]:
    load, limit = profile.foreign_load, LIMITS["busy"]
    if load is None or load <= limit:
        return []
    text = f"other processes used {load:.0%} of the machine while it was traced: capture again while it is alone"
    return [ReviewFinding(rule="busy-machine", level="problem", text=text, value=load, limit=limit)]


def _idle(profile: TraceResults, on_gpu: bool) -> list[ReviewFinding]:
    limit = LIMITS["idle"]
    if profile.idle_share <= limit:
        return []
    why = "launch-bound: the host launches too slowly" if on_gpu else "Python's own time between operators"
    text = f"nothing ran on the device for {profile.idle_share:.1%} of the traced steps: {why} (tracing adds to it)"
    return [ReviewFinding(rule="launch-bound", level="problem", text=text, value=profile.idle_share, limit=limit)]


def _hidden(profile: TraceResults) -> list[ReviewFinding]:
    """Device time that cannot be seen as any target's."""
    if profile.compiled:
        text = (
            f"the trainer's graph is compiled, and inside it there are no ranges: {profile.unattributed_share:.1%} of "
            "the device time is nobody's; capture without --compiled to attribute it"
        )
        return [ReviewFinding(rule="compiled-graph", level="note", text=text, value=profile.unattributed_share)]
    if not profile.targets:
        return [
            ReviewFinding(
                rule="no-ranges", level="problem", text="the trace has no ranges of targets: nothing can be attributed"
            )
        ]
    limit = LIMITS["unattributed"]
    if profile.unattributed_share <= limit:
        return []
    text = f"{profile.unattributed_share:.1%} of the device time belongs to no target"
    return [
        ReviewFinding(rule="unattributed", level="problem", text=text, value=profile.unattributed_share, limit=limit)
    ]


def _memory(profile: TraceResults) -> list[ReviewFinding]:
    moved = sum(profile.kinds.get(kind, 0.0) for kind in MOVES)
    share, limit = moved / profile.device_ms if profile.device_ms else 0.0, LIMITS["memory"]
    if share <= limit:
        return []
    text = f"copies and fills take {share:.1%} of the device time ({moved:.2f} ms per step)"
    return [ReviewFinding(rule="memory-traffic", level="problem", text=text, value=share, limit=limit)]


def _worth_a_workspace(profile: TraceResults) -> list[ReviewFinding]:
    limit = LIMITS["target"]
    found = []
    for row in [row for row in profile.targets if row.share >= limit][:MOST_TARGETS]:
        text = (
            f"{row.target} holds {row.share:.1%} of the device time ({row.self_ms:.2f} ms per step): "
            f"kernel-lab.py --engine {profile.engine} init --target {row.target} --workspace DIR"
        )
        found.append(
            ReviewFinding(
                rule="worth-a-workspace", level="suggestion", text=text, target=row.target, value=row.share, limit=limit
            )
        )
    return found
