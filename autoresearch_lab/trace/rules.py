"""What a trace profile says by stated rules, without anyone looking at it. The limits are the rules' own, not measured:
they are recorded with every finding, so that a reader can judge them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from autoresearch_lab.trace.schema import TraceProfile

# Shares of the machine (busy), of the traced steps (idle), and of the device time (the others).
LIMITS = {"busy": 0.20, "idle": 0.20, "unattributed": 0.40, "memory": 0.05, "target": 0.05}
MOST_TARGETS = 5


@dataclass(frozen=True)
class Observation:
    """level: problem (something to look into), suggestion (something to do), note. value and limit: what was compared;
    None where nothing was."""

    rule: str
    level: Literal["problem", "suggestion", "note"]
    text: str
    target: str | None = None
    value: float | None = None
    limit: float | None = None

    def plain(self) -> dict[str, str | float | None]:
        return asdict(self)


def findings(profile: TraceProfile) -> list[Observation]:
    """All findings, problems first."""
    return [*_busy(profile), *_idle(profile), *_hidden(profile), *_memory(profile), *_worth_a_workspace(profile)]


def _busy(profile: TraceProfile) -> list[Observation]:
    load, limit = profile.foreign_load, LIMITS["busy"]
    if load is None or load <= limit:
        return []
    text = f"other processes used {load:.0%} of the machine while it was traced: capture again while it is alone"
    return [Observation("busy-machine", "problem", text, value=load, limit=limit)]


def _idle(profile: TraceProfile) -> list[Observation]:
    limit = LIMITS["idle"]
    if profile.idle_share <= limit:
        return []
    on_gpu = profile.device.get("kind") == "cuda"
    why = "launch-bound: the host launches too slowly" if on_gpu else "Python's own time between operators"
    text = f"nothing ran on the device for {profile.idle_share:.1%} of the traced steps: {why} (tracing adds to it)"
    return [Observation("launch-bound", "problem", text, value=profile.idle_share, limit=limit)]


def _hidden(profile: TraceProfile) -> list[Observation]:
    """Device time that cannot be seen as any target's."""
    if profile.compiled:
        text = (
            f"the trainer's graph is compiled, and inside it there are no ranges: {profile.unattributed_share:.1%} of "
            "the device time is nobody's; capture without --compiled to attribute it"
        )
        return [Observation("compiled-graph", "note", text, value=profile.unattributed_share)]
    if not profile.targets:
        return [Observation("no-ranges", "problem", "the trace has no ranges of targets: nothing can be attributed")]
    limit = LIMITS["unattributed"]
    if profile.unattributed_share <= limit:
        return []
    text = f"{profile.unattributed_share:.1%} of the device time belongs to no target"
    return [Observation("unattributed", "problem", text, value=profile.unattributed_share, limit=limit)]


def _memory(profile: TraceProfile) -> list[Observation]:
    moved = sum(profile.kinds.get(kind, 0.0) for kind in ("copy", "set"))
    share, limit = moved / profile.device_ms if profile.device_ms else 0.0, LIMITS["memory"]
    if share <= limit:
        return []
    text = f"copies and fills take {share:.1%} of the device time ({moved:.2f} ms per step)"
    return [Observation("memory-traffic", "problem", text, value=share, limit=limit)]


def _worth_a_workspace(profile: TraceProfile) -> list[Observation]:
    limit = LIMITS["target"]
    found = []
    for row in [row for row in profile.targets if row.share >= limit][:MOST_TARGETS]:
        text = (
            f"{row.target} holds {row.share:.1%} of the device time ({row.self_ms:.2f} ms per step): "
            f"kernel-lab.py --engine {profile.engine} init --target {row.target} --workspace DIR"
        )
        found.append(
            Observation("worth-a-workspace", "suggestion", text, target=row.target, value=row.share, limit=limit)
        )
    return found
