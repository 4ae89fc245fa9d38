"""How far the cheaper evaluations are from the full one, for saved weights."""

import time
from pathlib import Path

from typing_extensions import TypedDict

from autoresearch_data.dataset import Dataset
from autoresearch_trainer.blame import naming_kernels
from autoresearch_trainer.config import Preset
from autoresearch_trainer.engine import TrainerEngine
from autoresearch_trainer.evaluate import evaluate_rungs
from autoresearch_trainer.ops import Selection
from autoresearch_trainer.record import Evaluation
from autoresearch_trainer.rungs import RUNGS, full_tokens, limited, rung_tokens


class RungEvaluation(Evaluation):
    """error: the difference of val_bpb from that of the full rung. seconds: its share of what the full one took."""

    error: float
    seconds: float


class RungReport(TypedDict):
    """weights: their file; dataset: its fingerprint; rungs: by name."""

    weights: str
    dataset: str
    rungs: dict[str, RungEvaluation]


def rung_report(
    engine: TrainerEngine,
    weights: Path,
    preset: Preset,
    selection: Selection | None,
    dataset: Dataset,
    device: str,
) -> RungReport:
    """Evaluate the weights on every rung.

    The rungs are those of `preset`, for the sequence length of the model. Raises ConfigError for unreadable weights,
    KernelFailed for a kernel that fails, TrainingFailed for a model that has diverged.
    """
    engine.prepare_process()
    ops = engine.Ops.load(selection)
    model = engine.load_model(weights, ops, device)
    length = model.config.sequence_len
    batch = preset.evaluated_batch
    whole = full_tokens(dataset, length, batch * length)
    tokens = {rung: limited(rung_tokens(preset, rung), whole, batch * length) for rung in RUNGS}
    started = time.perf_counter()
    with naming_kernels(ops):
        results = evaluate_rungs(engine.BatchLosses(model, batch), dataset, batch, length, tokens)
    full = results["full"].checked(str(weights))
    per_token = (time.perf_counter() - started) / full.tokens
    rungs = {
        name: RungEvaluation(**result.to_json(), error=result.val_bpb - full.val_bpb, seconds=per_token * result.tokens)
        for name, result in results.items()
    }
    return RungReport(weights=str(weights), dataset=dataset.fingerprint, rungs=rungs)


def rung_lines(report: RungReport) -> list[str]:
    """The report as a table; val_bpb of the full rung also in the form that scripts grep."""
    lines = [f"{'rung':<12}{'tokens':>12}{'val_bpb':>12}{'error':>12}{'standard error':>16}{'seconds':>10}"]
    for name, result in report["rungs"].items():
        error = f"{result['standard_error']:.6f}" if result["standard_error"] is not None else "-"
        figures = f"{result['val_bpb']:>12.6f}{result['error']:>+12.6f}{error:>16}{result['seconds']:>10.1f}"
        lines.append(f"{name:<12}{result['tokens']:>12}{figures}")
    return [*lines, f"val_bpb:          {report['rungs']['full']['val_bpb']:.6f}"]
