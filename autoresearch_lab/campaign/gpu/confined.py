"""Part `confined`: can the jobs that judge kernels use the GPU at all, cut off from the system as they are?

Verify and bench run code of others, and confine it. What NVIDIA's driver needs of the system to start is written down
nowhere, so it is tried here before minutes are lost. Where it does not start, a part of the confinement is left out, as
little as will do, and every record of this call says so.
"""

from __future__ import annotations

import os

from autoresearch_lab.campaign.gpu.result import ConfinedStart
from autoresearch_lab.campaign.gpu.setting import REHEARSED, Setting
from autoresearch_lab.campaign.steps import StepFailed, TimeBox
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.sandbox.confine import WITHOUT
from autoresearch_lab.sandbox.parent import JobFailed, Limits
from autoresearch_lab.sandbox.protocol import not_enforced
from autoresearch_trainer.jobs import Progress
from autoresearch_trainer.jobs.machine import START, StartArgs

COMPILER = "torch.compile"  # as the job `start` names it
ATTEMPTS = ("", "landlock", "seccomp", "seccomp,landlock")


def confined(setting: Setting, box: TimeBox) -> ConfinedStart:
    """Raises StepFailed where the device does not answer, or no kernel runs, in a confined job, whatever is left
    out."""
    failed: dict[str, str] = {}
    for without in ATTEMPTS:
        found, unenforced = _attempt(setting, without, box)
        if any(found.values()):
            log = setting.work / "confined" / "stderr.log"
            text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
            setting.keep_failure(f"confined-without-{without or 'nothing'}", f"{found}\n\n{text}")
        # Without torch.compile an arm is missing, without the others everything.
        broken = {name: why for name, why in found.items() if why is not None and name != COMPILER}
        if not broken:
            os.environ[WITHOUT] = without  # for everything that this call starts from now on
            return ConfinedStart(without=without, not_enforced=unenforced, found=found, failed=failed)
        failed[without] = "; ".join(f"{name}: {why}" for name, why in broken.items())
    raise StepFailed(f"no confined job works on the GPU: {failed['']}")


def _attempt(setting: Setting, without: str, box: TimeBox) -> tuple[dict[str, str | None], list[str]]:
    """What the job `start` finds, and what was not enforced on it."""
    target = setting.catalog[REHEARSED]
    kernel = target.baseline("torch", "cpu") if setting.rehearse else target.kernel("triton_fused", "torch")
    unenforced: list[str] = []
    stages = ["device"]

    def listen(message: Progress) -> None:
        unenforced.extend(not_enforced(message))
        if "stage" in message:
            stages.append(message["stage"])

    try:
        found = (
            ENGINES[setting.engine]
            .run(
                START,
                StartArgs(kernels={kernel.name: kernel.file}, compile=not setting.rehearse),
                run_dir=setting.work / "confined",
                limits=Limits(seconds=max(1.0, box.left), confined=True, readable=(str(kernel.path.parent),), gpu=True),
                variables={WITHOUT: without},
                on_progress=listen,
            )
            .found
        )
    except JobFailed as failure:
        # What it had come through is fine.
        found = {**dict.fromkeys(stages), stages[-1]: str(failure)}
    return found, unenforced
