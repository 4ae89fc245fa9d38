"""What a side's train.py says and leaves, as far as the lab reads it: its plan, run.json and progress.jsonl."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from autoresearch_lab.training_progress import PROGRESS_FILE, TrainingStep


class _Config(BaseModel):
    total_batch_tokens: int
    batch_size: int
    eval_batch_size: int | None = None


class _Choice(BaseModel):
    name: str
    value: str
    why: str


class SidePlan(BaseModel):
    """Of what `train.py --print-config --json` says."""

    config: _Config
    choices: list[_Choice] = []


class _Summary(BaseModel):
    peak_vram_mb: float


class SideRun(BaseModel):
    """Of run.json."""

    config: _Config
    step_seconds: list[float]
    summary: _Summary


def steps_made(out: Path) -> list[TrainingStep]:
    """What a training says of its steps now and then; empty where it does not."""
    try:
        lines = (out / PROGRESS_FILE).read_text(encoding="utf-8").splitlines()
        return [TrainingStep.model_validate_json(line) for line in lines if '"event":"step"' in line]
    except (OSError, ValueError):  # not yet, or a line that is being written
        return []
