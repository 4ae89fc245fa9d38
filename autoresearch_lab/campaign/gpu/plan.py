"""The parts of the plan for a GPU, and one call of it: what came of every part, in one JSON file.

What the ledger knows already of a kernel is not repeated, so a second call goes on where the first one's time was over;
which parts came to their end on this machine, and whose first try did, a file beside its results says.
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

from pydantic import BaseModel, ValidationError

from autoresearch_common.files import write_atomic
from autoresearch_common.hashing import file_sha256, json_sha256
from autoresearch_lab import machine
from autoresearch_lab.campaign.gpu import basics, confined, counters, packages, training, verdicts
from autoresearch_lab.campaign.gpu.archive import pack, write_result
from autoresearch_lab.campaign.gpu.result import SCHEMA, GpuResult, MachineFound, PackagesFound, Tried
from autoresearch_lab.campaign.gpu.setting import Setting, separate_root
from autoresearch_lab.campaign.gpu.tries import Part, tries
from autoresearch_lab.campaign.record import Campaign
from autoresearch_lab.campaign.steps import CampaignStep, NotBegun, StepEnd, TimeBox
from autoresearch_lab.engine import has_nvidia_gpu
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, PACKAGES, Root
from autoresearch_lab.repository import commit_of

CLOSING_SECONDS = 10.0
BEGAN = "GPU_SH_BEGAN"
ACTIONS: dict[str, Part] = {
    "confined": confined.confined,
    "data": basics.data,
    "profile": basics.profile,
    "verify": verdicts.verify,
    "bench": verdicts.bench,
    "rows": basics.rows,
    "train": training.train,
    "capture": counters.capture,
    "counters": counters.counters,
    "tests": basics.tests,
}
TRIES = "tries"
# Done anew in every call, or what the ledger knows of them is; the others once on a machine.
EVERY_CALL = ("confined", "data", TRIES, "profile", "verify", "bench")
# The two calls, by name: their parts (None: all that are not done) and their seconds.
CALLS: dict[str, tuple[tuple[str, ...] | None, float]] = {"first": (EVERY_CALL, 240.0), "second": (None, 420.0)}
SECONDS = 660.0
REHEARSAL = 5.0  # times as long, on a CPU that others may be using


class Known(BaseModel):
    """What earlier calls on this machine came through. tried: {part: how its first try ended}; done: full parts. code:
    hash of what they ran."""

    device: str | None
    code: str = ""
    tried: dict[str, StepEnd] = {}
    done: list[str] = []


def parts(setting: Setting, known: Known) -> list[CampaignStep]:
    """What the others rest on comes first; bench before train, which takes the kernels that bench found FASTER; the
    tests last: what they find shows in the verdicts, too. Where less time is left than all reserves, as in the first of
    two calls, each part has its share of it."""

    def part(name: str, most: float, reserve: float, *needs: str) -> CampaignStep:
        # ncu keeps to no time; the others end what they started by themselves.
        most *= REHEARSAL if setting.rehearse else 1.0
        return CampaignStep(name, partial(_act, name, setting, known), "", most, reserve, needs, name == "counters")

    return [
        part("confined", 60, 20),
        part("data", 60, 5),
        part(TRIES, 110, 95, "confined", "data"),
        part("profile", 100, 45, "data"),
        part("verify", 150, 50, "confined", "data"),
        part("bench", 300, 40, "confined", "data"),
        part("rows", 60, 20),
        part("train", 200, 110, "data"),
        part("capture", 60, 25, "data"),
        part("counters", 40, 15),
        part("tests", 120, 20),
    ]


def _act(name: str, setting: Setting, known: Known, box: TimeBox) -> BaseModel:
    """Raises NotBegun for a part whose first try failed."""
    if name == TRIES:
        return tries(ACTIONS, known.tried, setting, box)
    tried = setting.found(Tried)
    if tried and name in tried.broken:
        raise NotBegun(f"its first try failed: {tried.broken[name]}")
    return ACTIONS[name](setting, box)


@dataclass(frozen=True)
class GpuRequest:
    """What a call is asked for. seconds: of the whole call (None: what is usual). names: of the parts, or of one of the
    two calls (None: all parts); only: targets to look at (None: all that have a Triton kernel)."""

    out: Path
    seconds: float | None = None
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
        raise LabError("no NVIDIA GPU answers (nvidia-smi finds none); run --plan cpu takes any machine")
    out = request.out.expanduser().resolve()
    out.mkdir(parents=True, exist_ok=True)
    own = separate_root(out / "lab") if request.rehearse else root
    setting = Setting(out, own, request.rehearse, request.dataset, request.only)
    named = request.names[0] if request.names else ""
    names, usual = CALLS.get(named, (request.names, SECONDS))
    seconds = request.seconds or usual
    chosen(parts(setting, Known(device=None)), names, ())  # before anything is asked
    shutil.rmtree(setting.work, ignore_errors=True)  # what an earlier call left is not this one's
    try:
        # Asked once: the parts work in several threads, and in many processes.
        here = setting.lab.context
    except (LabError, LabFailure) as failure:
        if detail := getattr(failure, "detail", ""):
            say(detail)  # there is no archive yet
        raise LabError(f"the GPU cannot be described: {failure}") from None
    known = _known(setting, here)
    by_name = names is not None and named not in CALLS  # then done before or not
    once = () if by_name else known.done
    if by_name:
        known.tried = {}
    steps = chosen(parts(setting, known), names, once)
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
    clock = TimeBox(began + seconds - CLOSING_SECONDS)
    campaign = Campaign.of(setting.lab, "gpu", setting.preset, setting.dataset, say, seconds, clock)
    campaign.settings.rehearsed = request.rehearse
    campaign.ends = setting.ends

    def keep() -> None:
        """After every part, so that a machine that goes away leaves what there is."""
        for name, end in setting.ends.items():
            if end.detail:
                setting.keep_failure(name, end.detail)
                end.detail = ""
        result.parts = dict(setting.ends)
        result.seconds = round(time.monotonic() - began, 1)
        result.left_out = pack(setting)
        write_result(setting, result)
        _remember(setting, known)

    campaign.after_step = keep
    with machine.described(here):
        campaign.run(steps)
    keep()
    return result


def chosen(steps: Sequence[CampaignStep], names: Sequence[str] | None, done: Sequence[str]) -> list[CampaignStep]:
    """Those that are asked for and not done. What has to be left out of the confinement is found anew in each call, so
    what judges kernels takes `confined` along.

    Raises:
        LabError: a name is none of theirs.
    """
    known = [step.name for step in steps]
    wanted = set(known if names is None else names)
    if unknown := sorted(wanted - set(known)):
        raise LabError(f"unknown part {', '.join(unknown)}; known: {', '.join([*CALLS, *known])}")
    if wanted & {TRIES, "verify", "bench"}:
        wanted.add("confined")
    return [step for step in steps if step.name in wanted and (step.name in EVERY_CALL or step.name not in done)]


def _state(setting: Setting) -> Path:
    return setting.work.parent / "known.json"


def _known(setting: Setting, here: Context) -> Known:
    """What earlier calls found on this device; nothing where the file is missing or another's. What failed in a first
    try fails again, unless the code was mended since."""
    try:
        known = Known.model_validate_json(_state(setting).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        known = Known(device=None)
    device, code = here.device["key"], _code()
    if known.device != device:
        return Known(device=device, code=code)
    tried = {name: end for name, end in known.tried.items() if end.came_through or known.code == code}
    return known.model_copy(update={"code": code, "tried": tried})


def _code() -> str:
    folders = [CHECKOUT / name for name in (*PACKAGES, "kernels", "benchmarks", "tests/gpu")]
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".toml", ".sh"))
    return json_sha256([[path.relative_to(CHECKOUT).as_posix(), file_sha256(path)] for path in files])


def _remember(setting: Setting, known: Known) -> None:
    tried = setting.found(Tried)
    done = {name for name, end in setting.ends.items() if end.came_through}
    known.tried, known.done = tried.root if tried else known.tried, sorted({*known.done, *done})
    write_atomic(_state(setting), known.model_dump_json(indent=1) + "\n")


def _began() -> float:
    """When this call began, on the monotonic clock."""
    stated = float(os.environ.pop(BEGAN, "") or time.time())
    return time.monotonic() - max(0.0, time.time() - stated)


def _machine(here: Context) -> MachineFound:
    software = {name: None if value is None else str(value) for name, value in here.software.items()}
    return MachineFound(**{**here.device, "software": software, "cuda": software.get("cuda")})
