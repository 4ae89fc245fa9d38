"""From what was asked for to a full configuration: everything left open is decided here, with its reason."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from autoresearch_data.dataset import Dataset
from autoresearch_trainer import memory, rungs
from autoresearch_trainer.checkpoint import read_state
from autoresearch_trainer.config import Preset, TrainConfig, preset
from autoresearch_trainer.engine import PlanningEngine
from autoresearch_trainer.errors import ConfigError

DEFAULT_SECONDS = 300.0


@dataclass(frozen=True)
class Request:
    """What the user asked for; None = left open. evaluation: a rung. changes: fields of TrainConfig, such as seed.
    measured: whether these kernels train faster compiled on this machine, and how that is known; None = it is not."""

    preset: str | None = None
    device: str = "cpu"
    time_budget: float | None = None
    steps: int | None = None
    batch_size: int | None = None
    evaluation: str | None = None
    eval_tokens: int | None = None
    compile: str = "auto"
    smoke: bool = False
    resume: Path | None = None
    attention_kernel: str = "torch_eager"
    measured: tuple[bool, str] | None = None
    changes: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Choice:
    """One decision, for people: what, which value, why."""

    name: str
    value: str
    why: str


def complete(
    engine: PlanningEngine, request: Request, default_preset: str, dataset: Dataset
) -> tuple[TrainConfig, list[Choice]]:
    """The configuration to run in this engine, and what was decided on the way to it.

    A run that is resumed keeps the configuration of its checkpoint, batch and compilation included, but for its length
    and its evaluation. Raises ConfigError for anything unknown, contradictory, or too large for the memory.
    """
    if request.time_budget is not None and request.steps is not None:
        raise ConfigError("give --time-budget or --steps, not both")
    if request.eval_tokens is not None and request.evaluation is not None:
        raise ConfigError("give --eval or --eval-tokens, not both")
    if request.resume is not None:
        config, chosen = _resumed(engine, request, request.resume)
    else:
        config, chosen = _fresh(engine, request, default_preset)
    config, choice = _evaluated(config, request, preset(config.preset), dataset)
    path, why = engine.describe_attention(request.device, config.compute_dtype, request.attention_kernel)
    return config, [*chosen, choice, Choice("attention", path, why)]


def _fresh(engine: PlanningEngine, request: Request, default_preset: str) -> tuple[TrainConfig, list[Choice]]:
    name = request.preset or default_preset
    base = preset(name)
    length = _length(request, DEFAULT_SECONDS)
    config = TrainConfig.for_preset(name, **{"eval_tokens": base.eval_tokens, **(request.changes or {}), **length})
    config = replace(config, eval_batch_size=base.evaluated_batch)
    if request.smoke:
        config = config.smoke()
    compiled, why = engine.resolve_compile(request.compile, request.device, config.steps)
    if compiled and request.compile == "auto" and request.measured is not None:
        compiled, why = request.measured
    config = replace(config, compile=compiled)
    choices = [Choice("compile", "on" if compiled else "off", why)]
    available = engine.available_bytes(request.device)
    if request.smoke:
        estimate = memory.estimate_bytes(config, request.device)
        fit = memory.Fit(config, estimate, available, "--smoke takes small ones")
        if estimate > available:
            raise ConfigError(f"preset {name} needs about {memory.gib(estimate)}, {memory.gib(available)} are free")
    elif request.batch_size is not None:
        config = replace(config, batch_size=request.batch_size)
        fit = memory.Fit(config, memory.estimate_bytes(config, request.device), available, "asked for")
    else:
        fit = memory.fit_batch(config, base, request.device, available)
    return fit.config, [*_batch_choices(fit), *choices]


def _batch_choices(fit: memory.Fit) -> list[Choice]:
    config = fit.config
    shape = f"{config.batch_size} x {config.model.sequence_len} tokens"
    passes = f"{config.total_batch_tokens} tokens per step" + _passes(config)
    estimate = f"about {memory.gib(fit.estimate)}"
    return [
        Choice("batch", f"{shape}, {passes}", fit.why),
        Choice("memory", estimate, f"estimated from the shapes; {memory.gib(fit.available)} are free"),
    ]


def _passes(config: TrainConfig) -> str:
    return f" in {config.accumulation} passes" if config.accumulation > 1 else ""


def _resumed(engine: PlanningEngine, request: Request, folder: Path) -> tuple[TrainConfig, list[Choice]]:
    state = read_state(folder)
    config, done = TrainConfig.from_json(state["config"]), state["steps_done"]
    if request.preset not in (None, config.preset):
        raise ConfigError(f"the checkpoint is of preset {config.preset}, not {request.preset}")
    if request.batch_size not in (None, config.batch_size):
        raise ConfigError(f"the checkpoint has a batch of {config.batch_size}; a resumed run keeps it")
    if request.steps is not None and request.steps <= done:
        raise ConfigError(f"the checkpoint is at step {done} already; --steps counts from the beginning of the run")
    config = replace(config, **(request.changes or {}), **_length(request, None))
    if request.compile != "auto":
        config = replace(config, compile=request.compile == "on")
    if config.compile:
        engine.resolve_compile("on", request.device, config.steps)  # may be refused here: another machine saved it
    from_there = f"as in {folder}"
    shape = f"{config.batch_size} x {config.model.sequence_len} tokens{_passes(config)}"
    return config, [
        Choice("batch", shape, from_there),
        Choice("compile", "on" if config.compile else "off", from_there if request.compile == "auto" else "asked for"),
    ]


def _length(request: Request, default: float | None) -> dict[str, Any]:
    """time_budget and steps; nothing where neither is asked for and there is no default."""
    if request.steps is not None:
        return {"steps": request.steps, "time_budget": None}
    seconds = request.time_budget if request.time_budget is not None else default
    return {} if seconds is None else {"time_budget": seconds, "steps": None}


def _evaluated(config: TrainConfig, request: Request, base: Preset, dataset: Dataset) -> tuple[TrainConfig, Choice]:
    """The size of the evaluation: never more than one pass over the split, but where tokens were asked for."""
    if request.eval_tokens is not None:
        config = replace(config, eval_tokens=request.eval_tokens)
        return config, Choice("evaluation", f"{request.eval_tokens} tokens", "asked for")
    if request.smoke:
        return config, Choice("evaluation", f"{config.eval_tokens} tokens", "--smoke takes one batch")
    if request.evaluation is None and request.resume is not None:
        return config, Choice("evaluation", f"{config.eval_tokens} tokens", f"as in {request.resume}")
    wanted = rungs.rung_tokens(base, request.evaluation) if request.evaluation else base.eval_tokens
    rung = request.evaluation or ("full" if wanted >= rungs.FULL_TOKENS else "reference")
    whole = rungs.full_tokens(dataset, config.model.sequence_len, config.eval_batch_tokens)
    tokens = rungs.limited(wanted, whole, config.eval_batch_tokens)
    config = replace(config, eval_tokens=tokens, eval_spread_over=whole if tokens < whole else None)
    why = "asked for" if request.evaluation else "the preset's"
    what = f"spread over {whole}" if tokens < whole else "the whole split" if whole < rungs.FULL_TOKENS else "the first"
    return config, Choice("evaluation", f"{rung}, {tokens} tokens, {what}", why)


SMOKE = ("steps", "time_budget", "batch_size", "total_batch_tokens", "eval_tokens", "eval_batch_size")
MADE_BY_PRESET = ("batch_size", "total_batch_tokens", "eval_tokens", "eval_batch_size", "eval_spread_over")


def sources(config: TrainConfig, request: Request, fitted: str | None) -> dict[str, str]:
    """{field of the configuration: where its value comes from}, those of the model beside the others: a checkpoint, an
    option, the preset, what was fitted or measured on this machine, its memory, or the default.

    fitted: the preset of which the configuration's is a shape that was fitted here; None where it is not.
    """
    base = preset(config.preset)
    shape = {name: "preset" for name in config.to_json()["model"]}
    found = {name: "default" for name in config.to_json() if name != "model"} | shape
    found |= dict.fromkeys(MADE_BY_PRESET, "preset")
    if fitted is not None:
        mine, other = _plain(base), _plain(preset(fitted))
        found |= {name: "fitted" for name in mine if mine[name] != other[name]} | {"preset": "fitted"}
    if config.batch_size != base.batch_size:
        found["batch_size"] = "memory"
    if request.measured is not None and request.compile == "auto":
        found["compile"] = "measured"
    if config.peak_flops is not None:
        found["peak_flops"] = "measured"
    if request.resume is not None:
        found |= dict.fromkeys(found.keys() - {"peak_flops"}, "checkpoint")
    return found | dict.fromkeys(_asked(request), "option")


def _plain(base: Preset) -> dict[str, Any]:
    return {**asdict(base.model), "batch_size": base.batch_size, "total_batch_tokens": base.total_batch_tokens}


def _asked(request: Request) -> Iterable[str]:
    """The fields that options decide."""
    yield from request.changes or {}
    yield from SMOKE if request.smoke else ()
    if request.preset is not None:
        yield "preset"
    if request.steps is not None or request.time_budget is not None:
        yield from ("steps", "time_budget")
    if request.batch_size is not None:
        yield "batch_size"
    if request.evaluation is not None or request.eval_tokens is not None:
        yield from ("eval_tokens", "eval_spread_over")
    if request.compile != "auto":
        yield "compile"
