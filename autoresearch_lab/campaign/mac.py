"""The plan for a Mac: everything that only an Apple GPU can show about the Metal kernels. Every step is a command."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autoresearch_lab.campaign.command import python, run_command, subject, verb
from autoresearch_lab.campaign.steps import CampaignStep, TimeBox
from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.datasets import is_own
from autoresearch_lab.errors import LabError
from autoresearch_lab.hardware import has_apple_gpu
from autoresearch_lab.lab import Lab
from autoresearch_lab.paths import CHECKOUT


@dataclass(frozen=True)
class Shown:
    """A command whose output goes where ours goes. negative: exit code 1 may be an answer (a kernel that is not
    faster), not only a failure."""

    command: tuple[str, ...]
    negative: bool = False

    def __call__(self, box: TimeBox) -> None:
        run_command(self.command, box, shown=sys.stdout).require(self.negative)


def require_metal() -> None:
    """Raises LabError where there is no Apple GPU."""
    if not has_apple_gpu():
        raise LabError("mac: there is no Metal here: it takes an Apple GPU (docs/mac.md); nothing was run")


def metal_kernels(catalog: Mapping[str, Target]) -> list[Kernel]:
    """Every kernel of the catalogue that is written in Metal."""
    return [kernel for target in catalog.values() for kernel in target.kernels if kernel.language == "metal"]


def mac_steps(
    lab: Lab, catalog: Mapping[str, Target], preset: str, dataset: str, bench_seconds: float
) -> list[CampaignStep]:
    """The steps in order. The profile comes before the kernels, so that they are judged on calls that it captured."""
    profile = str(lab.root.results / "mac-profile.json")
    data = ("--corpus", dataset, "--data-dir", str(lab.root.data(dataset).parent))
    steps = [
        _step("doctor", verb(lab, "mlx", "doctor")),
        _step("tests", python("-m", "pytest")),
        *([] if is_own(lab.root, dataset) else [_step("data", python(str(CHECKOUT / "prepare.py"), *data))]),
        _step("profile", verb(lab, "mlx", "profile", "--preset", preset, "--dataset", dataset, "--output", profile)),
    ]
    for kernel in metal_kernels(catalog):
        chosen, budget = subject(kernel), ("--budget", f"{bench_seconds:g}")
        steps.append(_step(f"verify {kernel.target}", verb(lab, "mlx", "verify", *chosen)))
        steps.append(_step(f"bench {kernel.target}", verb(lab, "mlx", "bench", *chosen, *budget), negative=True))
    top = ("--profile", profile, "--top-k", "20", "--bench-seconds", f"{bench_seconds:g}")
    steps.append(_step("orchestrate", verb(lab, "mlx", "orchestrate", *top), negative=True))
    return [*steps, _step("report", verb(lab, "mlx", "report"))]


def _step(name: str, command: tuple[str, ...], negative: bool = False) -> CampaignStep:
    return CampaignStep(name, Shown(command, negative), " ".join(map(_short, command)))


def _short(part: str) -> str:
    """A path of the checkout as people would type it."""
    path = Path(part)
    return path.relative_to(CHECKOUT).as_posix() if path.is_relative_to(CHECKOUT) and path != CHECKOUT else part
