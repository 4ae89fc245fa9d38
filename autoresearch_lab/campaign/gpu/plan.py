"""The parts of the plan for a GPU, and one call of it: what came of every part, in one JSON file.

What the ledger knows already of a kernel is not repeated, so a second call goes on where the first one's time was over.
GPU_SH_BEGAN in the environment, in seconds since 1970: when gpu.sh itself began, whose unpacking of wheels counts, too.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pydantic import BaseModel

from autoresearch_lab.campaign.gpu import basics, confined, counters, packages, training, verdicts
from autoresearch_lab.campaign.gpu.archive import pack, write_result
from autoresearch_lab.campaign.gpu.result import SCHEMA, GpuResult, MachineFound, PackagesFound
from autoresearch_lab.campaign.gpu.setting import Setting, rehearsal_root
from autoresearch_lab.campaign.record import Campaign
from autoresearch_lab.campaign.steps import CampaignStep, TimeBox
from autoresearch_lab.engine import has_nvidia_gpu
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.repository import commit_of

SECONDS, CLOSING_SECONDS = 540.0, 10.0
BEGAN = "GPU_SH_BEGAN"
Part = Callable[[Setting, TimeBox], BaseModel]
ACTIONS: dict[str, Part] = {
    "confined": confined.confined,
    "data": basics.data,
    "profile": basics.profile,
    "verify": verdicts.verify,
    "bench": verdicts.bench,
    "train": training.train,
    "capture": counters.capture,
    "counters": counters.counters,
    "tests": basics.tests,
}


def parts(setting: Setting) -> list[CampaignStep]:
    """What the others rest on comes first; bench before train, which takes the kernels that bench found FASTER; the
    tests last: what they find shows in the verdicts, too. The reserves fit into the time together, so each part gets
    its own."""

    def part(name: str, most: float, reserve: float, *needs: str) -> CampaignStep:
        # ncu keeps to no time; the others end what they started by themselves.
        interrupt = name == "counters"
        return CampaignStep(name, partial(_act, name, setting), "", most, reserve, needs, interrupt)

    return [
        part("confined", 60, 25),
        part("data", 60, 20),
        part("profile", 150, 80, "data"),
        part("verify", 190, 90, "confined", "data"),
        part("bench", 300, 110, "confined", "data"),
        part("train", 200, 120, "data"),
        part("capture", 60, 30, "data"),
        part("counters", 40, 15),
        part("tests", 120, 20),
    ]


def _act(name: str, setting: Setting, box: TimeBox) -> BaseModel:
    return ACTIONS[name](setting, box)


@dataclass(frozen=True)
class GpuRequest:
    """What a call is asked for. seconds: of the whole call. names: of the parts (None: all); only: targets to look at
    (None: all that have a Triton kernel)."""

    out: Path
    seconds: float = SECONDS
    names: tuple[str, ...] | None = None
    only: tuple[str, ...] | None = None
    dataset: str = "stdlib"
    rehearse: bool = False


def default_out() -> Path:
    """$OUT, or a folder that is named after the time."""
    return Path(os.environ.get("OUT") or CHECKOUT / "results" / "gpu" / time.strftime("%Y%m%d-%H%M%S"))


def run_parts(root: Root, request: GpuRequest, say: Callable[[str], None]) -> GpuResult:
    """One call, whose result is written after every part.

    Raises:
        LabError: no GPU answers, it cannot be described, or a part does not exist.
    """
    began = _began()
    if not request.rehearse and not has_nvidia_gpu():
        raise LabError("no NVIDIA GPU answers (nvidia-smi finds none); --rehearse runs on a CPU")
    out = request.out.expanduser().resolve()
    out.mkdir(parents=True, exist_ok=True)
    own = rehearsal_root(out) if request.rehearse else root
    setting = Setting(out, own, request.rehearse, request.dataset, request.only)
    steps = chosen(parts(setting), request.names)
    shutil.rmtree(setting.work, ignore_errors=True)  # what an earlier call left is not this one's
    try:
        # Asked once: the parts work in several threads.
        here = setting.lab.context
    except (LabError, LabFailure) as failure:
        raise LabError(f"the GPU cannot be described: {failure}") from None
    result = GpuResult(
        schema=SCHEMA,
        rehearsed=request.rehearse,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        # A machine that is lent may get the files without their history: then COMMIT says it.
        commit=os.environ.get("COMMIT") or commit_of(CHECKOUT),
        machine=_machine(here),
        packages=PackagesFound(**packages.look()),
        device_key=setting.device_key,
        parts={},
    )
    clock = TimeBox(began + request.seconds - CLOSING_SECONDS)
    campaign = Campaign.of(setting.lab, "gpu", setting.preset, setting.dataset, say, request.seconds, clock)
    campaign.settings.rehearsed = request.rehearse
    campaign.ends = setting.ends

    def keep() -> None:
        """After every part, so that a machine that goes away leaves what there is."""
        result.parts = dict(setting.ends)
        result.seconds = round(time.monotonic() - began, 1)
        result.left_out = pack(setting)
        write_result(setting, result)

    campaign.after_step = keep
    campaign.run(steps)
    keep()
    return result


def chosen(steps: Sequence[CampaignStep], names: Sequence[str] | None) -> list[CampaignStep]:
    """Those that are asked for. What has to be left out of the confinement is found anew in each call, so what judges
    kernels takes `confined` along.

    Raises:
        LabError: a name is none of theirs.
    """
    known = [step.name for step in steps]
    wanted = set(known if names is None else names)
    if unknown := sorted(wanted - set(known)):
        raise LabError(f"unknown part {', '.join(unknown)}; known: {', '.join(known)}")
    if wanted & {"verify", "bench"}:
        wanted.add("confined")
    return [step for step in steps if step.name in wanted]


def _began() -> float:
    """When this call began, on the monotonic clock."""
    stated = float(os.environ.pop(BEGAN, "") or time.time())
    return time.monotonic() - max(0.0, time.time() - stated)


def _machine(here: Context) -> MachineFound:
    software = {name: None if value is None else str(value) for name, value in here.software.items()}
    return MachineFound(**{**here.device, "software": software, "cuda": software.get("cuda")})
