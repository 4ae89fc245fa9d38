"""What `train.py` is about to do: engine, kernels, data, configuration, and the reason for each choice."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from autoresearch_data.dataset import Dataset, open_dataset
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.ceilings import known_peak
from autoresearch_lab.datasets import choose_dataset
from autoresearch_lab.engine import ENGINES, Engine, choose
from autoresearch_lab.errors import LabError
from autoresearch_lab.evidence import fitted_preset, measured_modes
from autoresearch_lab.hardware import Hardware, detect, suggest_preset
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import context_of_this_process
from autoresearch_lab.paths import Root
from autoresearch_lab.promote.selection import Selection, baseline, resolve, resolve_named
from autoresearch_trainer.config import TrainConfig
from autoresearch_trainer.engine import PlanningEngine, TrainerEngine
from autoresearch_trainer.plan import Request, complete, sources
from autoresearch_trainer.record import CeilingRecord, ChoiceRecord


@dataclass(frozen=True)
class Training:
    """Everything that is decided before a run. ceiling: None where no peak rate was measured on this machine. sources:
    where each value of the configuration comes from."""

    engine: Engine
    hardware: Hardware
    selection: Selection
    dataset: Dataset
    config: TrainConfig
    choices: list[ChoiceRecord]
    ceiling: CeilingRecord | None
    sources: dict[str, str]

    def plain(self) -> dict[str, Any]:
        return {
            "engine": self.engine.name,
            "hardware": self.hardware.plain(),
            "choices": self.choices,
            "config": self.config.to_json(),
            "sources": self.sources,
            "dataset": {"name": self.dataset.name, "fingerprint": self.dataset.fingerprint},
            "kernels": {target: one.plain() for target, one in self.selection.recorded().items()},
            "ceiling": self.ceiling,
        }

    def lines(self) -> list[str]:
        chosen = [f"{c['name'] + ':':<12}{c['value']}  ({c['why']})" for c in self.choices]
        values = self.config.to_json()
        values |= values.pop("model")
        groups: dict[str, list[str]] = {}
        for name, source in self.sources.items():
            groups.setdefault(source, []).append(f"{name}={values[name]}")
        return [*chosen, "", *(f"from {source + ':':<12}{' '.join(groups[source])}" for source in sorted(groups))]


def planning_engine(engine: Engine) -> PlanningEngine:
    """What this engine is asked before it trains."""
    return cast(PlanningEngine, importlib.import_module(f"{engine.package}.plan"))


def trainer_engine(engine: Engine) -> TrainerEngine:
    """What trains in this engine; imported late, so that --help and bad input need no framework."""
    return cast(TrainerEngine, importlib.import_module(f"{engine.package}.engine"))


def plan_training(
    root: Root,
    *,
    engine_name: str,
    kernels: str | None,
    dataset: str | None,
    data_dir: Path | None,
    request: Request,
) -> Training:
    """Decide everything that `train.py` was not told. `request`: what it was, device and attention apart. kernels: a
    selection; None for the promoted ones, as far as they still are what was promoted.

    Raises:
        LabError, and the engine's and the data package's own errors, for bad input.
    """
    engine = choose(engine_name)
    hardware = detect(engine.name)
    catalog = load_catalog(root)
    choose_kernels = resolve if kernels is None else resolve_named
    selection = choose_kernels("promoted" if kernels is None else kernels, catalog, engine, root)
    folder, dataset_why = choose_dataset(data_dir.expanduser() if data_dir else root.datasets, dataset)
    opened = open_dataset(folder)
    # What the lab has measured on this machine, with the engines that it measures with.
    lab = None
    if root.ledger.exists() and engine.name in ENGINES:
        lab = Lab.of(context_of_this_process(engine), root, Ledger(root.ledger, hurried=True))
    usual, preset_why = suggest_preset(hardware)
    fitted = _fitted(lab, usual) if lab else None
    suggested, preset_why = fitted or (usual, preset_why)
    attention = selection.kernels.get("windowed_attention")
    request = replace(
        request,
        device=engine.device,
        attention_kernel=attention.name if attention else "none",
        measured=_measured(lab, request.preset or suggested, selection) if lab else None,
    )
    config, chosen = complete(planning_engine(engine), request, suggested, opened)
    selection = selection.in_mode("compiled" if config.compile else "eager", baseline(catalog, engine))
    ceiling, no_ceiling = _ceiling(lab, config.compute_dtype) if lab else (None, None)
    if ceiling:
        config = config.with_peak(ceiling["flops"])
    engine_why = "asked for" if engine_name != "auto" else hardware.describe()
    asked = request.preset or request.resume
    if asked:
        preset_why = "asked for" if request.preset else f"as in {request.resume}"
    choices: list[ChoiceRecord] = [
        {"name": "engine", "value": engine.name, "why": engine_why},
        {"name": "preset", "value": config.preset, "why": preset_why},
        {"name": "dataset", "value": f"{opened.name} {opened.fingerprint[:12]}", "why": dataset_why},
        *(ChoiceRecord(name=c.name, value=c.value, why=c.why) for c in chosen),
        _kernel_choice(selection, kernels),
        _ceiling_choice(ceiling, no_ceiling, engine),
    ]
    origin = sources(config, request, usual if fitted and not asked else None)
    return Training(engine, hardware, selection, opened, config, choices, ceiling, origin)


def _kernel_choice(selection: Selection, text: str | None) -> ChoiceRecord:
    chosen = ", ".join(f"{target}={kernel.name}" for target, kernel in selection.chosen().items())
    asked = f"--kernels {text}" if text is not None else "what is promoted here"
    return {"name": "kernels", "value": chosen or "baseline", "why": "; ".join([asked, *selection.remarks])}


def _fitted(lab: Lab, usual: str) -> tuple[str, str] | None:
    """(preset, why) that `kernel-lab fit` found for this machine. A broken ledger is no reason not to train."""
    try:
        return fitted_preset(lab, usual)
    except LabError:
        return None


def _measured(lab: Lab, preset: str, selection: Selection) -> tuple[bool, str] | None:
    """(compile?, why) as an A/B found for just these kernels; None where none did. A broken ledger is no reason not to
    train."""
    try:
        found = measured_modes(lab, preset, selection.contents())
    except LabError:
        return None
    if found is None:
        return None
    eager, compiled = found.speeds.eager, found.speeds.compiled
    speeds = f"{eager:,.0f} tokens/s eager, {compiled:,.0f} compiled"
    return found.speeds.used == "compiled", f"measured with these kernels: {speeds}, record {found.record[:12]}"


def _ceiling(lab: Lab, dtype: str) -> tuple[CeilingRecord | None, str | None]:
    """(the measured ceiling of this device, if the ledger has one, None); (None, why the ledger cannot be asked). A
    broken ledger is no reason not to train."""
    try:
        return known_peak(lab.ledger, lab.engine.name, lab.context.device["key"], dtype), None
    except LabError as error:
        return None, str(error)


def _ceiling_choice(ceiling: CeilingRecord | None, trouble: str | None, engine: Engine) -> ChoiceRecord:
    if ceiling is None:
        why = trouble or f"nothing measured on this device yet; kernel-lab.py --engine {engine.name} profile does"
        return {"name": "ceiling", "value": "unknown", "why": why}
    value = f"{ceiling['flops'] / 1e12:.3f} TFLOP/s in {ceiling['dtype']}"
    return {"name": "ceiling", "value": value, "why": f"measured here, record {ceiling['record'][:12]}"}
