"""Parts `data`, `profile`, `tests` and `rows`: what the others rest on, and what tests say."""

from __future__ import annotations

import importlib.util
import re
from typing import TypeVar

from autoresearch_data.dataset import open_dataset
from autoresearch_lab.campaign.command import python
from autoresearch_lab.campaign.gpu.result import BigRows, DatasetFound, GpuTests, ProfileFound, TargetShare, Tested
from autoresearch_lab.campaign.gpu.setting import Setting
from autoresearch_lab.campaign.profiles import known_profile
from autoresearch_lab.campaign.steps import StepFailed, TimeBox
from autoresearch_lab.paths import CHECKOUT
from autoresearch_lab.profile.run import newest_workloads
from autoresearch_lab.profile.schema import Profile
from autoresearch_lab.promote.selection import resolve

Tests = TypeVar("Tests", bound=Tested)


def data(setting: Setting, box: TimeBox) -> DatasetFound:
    """The dataset that is trained on: the one that is there, else prepared from the sources of Python's own library."""
    folder = setting.root.data(setting.dataset)
    if (folder / "dataset.json").is_file():
        return DatasetFound(folder=str(folder), prepared=False)
    if setting.dataset != "stdlib":
        raise StepFailed(f"no dataset {setting.dataset} at {folder}")
    missing = [name for name in ("rustbpe", "pyarrow") if importlib.util.find_spec(name) is None]
    if missing:
        raise StepFailed(f"no dataset at {folder}, and without {' and '.join(missing)} none can be prepared")
    words = ("--corpus", "stdlib", "--data-dir", str(folder.parent))
    setting.run(box, python(str(CHECKOUT / "prepare.py"), *words), "prepare").require()
    return DatasetFound(folder=str(folder), prepared=True)


def tests(setting: Setting, box: TimeBox) -> GpuTests:
    """The tests that need a GPU; at first every Triton kernel at the trainer's shapes, against the oracle."""
    kernels = ("tests/gpu/test_gpu_kernels.py", "-k", "oracles")
    return _tested(setting, box, GpuTests, *(kernels if setting.first else ("tests/gpu", "-k", "not big_rows")))


def rows(setting: Setting, box: TimeBox) -> BigRows:
    """Kernels on arrays of 2^31 elements, and more: sampled rows against the oracle; at first a few rows."""
    return _tested(setting, box, BigRows, "tests/gpu/test_big_rows.py", "-k", "few" if setting.first else "not few")


def _tested(setting: Setting, box: TimeBox, kind: type[Tests], *which: str) -> Tests:
    if importlib.util.find_spec("pytest") is None:
        raise StepFailed("pytest is not installed")
    words = ("-m", "pytest", *which, "-p", "no:cacheprovider", "-o", "addopts=", "-v", "-rfE")
    done = setting.run(box, python(*words), f"{kind.__name__}")
    outcomes = re.findall(r"^\S+::.* (PASSED|FAILED|SKIPPED|ERROR)\b", done.out, re.MULTILINE)
    if not outcomes:
        raise StepFailed(done.reason, done.code, done.printed)
    counts = {word: outcomes.count(word.upper()) for word in ("passed", "failed", "skipped", "error")}
    lines = re.findall(r"^(?:FAILED|ERROR) \S.*", done.out, re.MULTILINE)
    return kind(**counts, lines=lines, unfinished=done.code is None)


def profile(setting: Setting, box: TimeBox) -> ProfileFound:
    """The lab's own profile of the trainer: where a step's time goes, the captured calls, the measured ceilings.

    What an earlier call took is not taken again: the captured calls stay those that kernels were verified on."""
    found = earlier_profile(setting)
    if found is None:
        setting.work.mkdir(parents=True, exist_ok=True)
        output = str(setting.work / "profile.json")
        words = ("--preset", setting.preset, "--steps", "4", "--output", output, "--dataset", setting.dataset)
        done = setting.verb(box, "profile", *words).require()
        found = Profile.model_validate({name: value for name, value in done.json().items() if name != "output"})
    if setting.small:
        return ProfileFound(targets=[TargetShare(target=row.target) for row in found.targets])
    return ProfileFound(
        step_ms=found.step_ms,
        sum_deviation=found.sum_deviation,
        tokens_per_second=found.tokens_per_second,
        ceilings=found.ceilings,
        targets=[TargetShare(**row.model_dump(include=set(TargetShare.model_fields))) for row in found.targets],
        record=found.id,
    )


def earlier_profile(setting: Setting) -> Profile | None:
    """The newest profile of this preset here, with the lab as it is and its captured calls still the newest ones."""
    context, root = setting.context, setting.root
    if context is None or not root.ledger.exists():
        return None
    baseline = resolve("baseline", setting.catalog, context, root)
    fingerprint = open_dataset(root.data(setting.dataset)).fingerprint
    found = known_profile(setting.lab, setting.preset, fingerprint, baseline)
    for name, reference in (found.workloads if found else {}).items():
        newest = newest_workloads(name, setting.lab)
        if newest is None or newest.sha256 != reference.sha256:
            return None
    return found
