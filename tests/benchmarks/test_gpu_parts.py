"""The parts of benchmarks/gpu.sh: their order, what they need and know of each other, what they choose."""

import json
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest

from autoresearch_lab import machine
from autoresearch_lab.campaign.command import Completed, python, run_command
from autoresearch_lab.campaign.gpu import archive, basics, confined, packages, plan, training, verdicts
from autoresearch_lab.campaign.gpu.result import ArmTrained, BigRows, ConfinedStart, GpuTests, Verified
from autoresearch_lab.campaign.gpu.setting import Setting
from autoresearch_lab.campaign.steps import CampaignStep, StepFailed, TimeBox
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.lab import Lab
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root
from autoresearch_lab.results.record import BenchRecord, VerifyRecord
from autoresearch_lab.sandbox.parent import JobFailed
from autoresearch_trainer.jobs.machine import DescribeAnswer
from benchmarks.gpu import main

NOTHING = {"missing": [], "optional": [], "present": []}


def test_without_a_gpu_and_without_rehearse_it_does_not_begin(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(plan, "has_nvidia_gpu", lambda: False)
    monkeypatch.setattr(packages, "look", lambda: {"missing": [], "optional": ["ncu: no counters"], "present": []})
    assert main.main(["--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "not here: ncu" in told and "error: no NVIDIA GPU answers" in told


def test_missing_packages_are_named_first(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(packages, "PACKAGES", (packages.Package("no-such-wheel"),))
    assert main.main(["--rehearse", "--out", str(tmp_path)]) == 2
    assert "packages are missing: no-such-wheel" in capsys.readouterr().err


def test_an_unknown_part_is_bad_input(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(packages, "look", lambda: NOTHING)
    assert main.main(["--rehearse", "--out", str(tmp_path), "--parts", "data,typo"]) == 2
    assert "unknown part typo; known: first, second, confined, data" in capsys.readouterr().err


def test_what_only_makes_reports_is_not_asked_for_on_a_bare_machine():
    """The verbs of the plan; the packages are those that are not carried there."""
    program = (
        "import sys; sys.modules |= dict.fromkeys(['duckdb', 'plotly', 'jinja2', 'rustbpe', 'textual', 'packaging']);"
        "import benchmarks.gpu.main;"
        "from autoresearch_lab.cli import app, bench, campaign, judge, profile, trace"
    )
    done = run_command(python("-c", program), TimeBox.of(60.0))
    assert done.code == 0, done.err


@pytest.fixture
def parts_of(monkeypatch, tmp_path, rehearsed_on):
    """What became of the parts of a rehearsal whose parts do what is given."""
    monkeypatch.setattr(packages, "look", lambda: NOTHING)

    def go(names, **actions):
        monkeypatch.setattr(plan, "ACTIONS", plan.ACTIONS | actions)
        assert main.main(["--rehearse", "--out", str(tmp_path), "--parts", names]) == 0
        return json.loads((tmp_path / archive.RESULT).read_text())["parts"]

    return go


def found(value):
    return lambda setting, box: value


STARTED = ConfinedStart(without="", not_enforced=[], found={}, failed={})


def test_a_part_that_fails_or_has_no_time_is_told_and_the_next_goes_on(monkeypatch, parts_of, capsys):
    def broken(setting, box):
        raise RuntimeError("the driver\nwent away")

    def short(setting, known):
        return [
            CampaignStep(name, lambda box, name=name: plan.ACTIONS[name](setting, box), most=most)
            for name, most in {"confined": 10, "data": 10, "verify": 10, "bench": 0.5}.items()
        ]

    monkeypatch.setattr(plan, "parts", short)
    passed = Verified.model_validate({"a=b": {"verdict": "PASS"}})
    parts = parts_of("data,verify,bench", data=broken, confined=found(STARTED), verify=found(passed))
    # The first was not asked for, and is needed.
    assert [part["state"] for part in parts.values()] == ["done", "failed", "done", "skipped"]
    assert "RuntimeError: the driver went away" in parts["data"]["reason"]
    assert "no time left" in capsys.readouterr().out


def test_a_command_that_runs_out_of_time_is_ended():
    done = run_command(python("-c", "import time; time.sleep(60)"), TimeBox.of(1.2))
    assert done.code is None and done.seconds < 20 and "out of time" in done.reason


def _triton_kernels():
    return [kernel for target in _catalog().values() for kernel in target.kernels if kernel.language == "triton"]


def verdict_of(verified, benched):
    told = {"verify": verified, "bench": benched}
    return lambda part, kernel: told[part].get(kernel.target)


def test_only_verified_kernels_are_trained_with():
    kernels = _triton_kernels()
    verified = {kernel.target: "PASS" for kernel in kernels} | {"rms_norm": "FAIL", "mlp": None}
    chosen = training.selection(kernels, verdict_of(verified, {}))
    assert not {"rms_norm", "mlp"} & set(chosen.kernels) and {"relu_squared", "rope"} <= set(chosen.kernels)
    assert chosen.left_out == {"rms_norm=triton_fused": "failed verification", "mlp=triton_fused": "not verified"}
    assert chosen.rule.startswith("verified; none was benched")


def test_as_soon_as_kernels_were_timed_only_the_faster_ones_are_trained_with():
    kernels = _triton_kernels()
    verified = {kernel.target: "PASS" for kernel in kernels}
    assert training.selection(kernels, verdict_of(verified, {"rope": "SAME"})).kernels == {}
    benched = {"rope": "SAME", "mlp": "FASTER"}
    chosen = training.selection(kernels, verdict_of(verified, benched))
    assert set(chosen.kernels) == {"mlp"} and chosen.rule == "verified and FASTER"
    left_out = chosen.left_out
    assert left_out["rope=triton_fused"] == "bench: SAME" and left_out["rms_norm=triton_fused"] == "not benched"


def test_an_arm_that_fails_does_not_take_the_other_one_with_it(monkeypatch, tmp_path):
    def one(setting, arm, kernels, box):
        if arm == "triton":
            raise StepFailed("out of memory")
        return ArmTrained(tokens_per_second=5.0, val_bpb=1.0)

    def trained(*verdicts):
        monkeypatch.setattr(training, "verdicts_known", lambda setting: verdict_of(*verdicts))
        return training.train(Setting(tmp_path, Root(), only=("rope",)), TimeBox.of(100.0))

    monkeypatch.setattr(training, "_one", one)
    found = trained({"rope": "PASS"}, {})
    assert found.arms == {"baseline": ArmTrained(tokens_per_second=5.0, val_bpb=1.0)}
    assert found.failed == {"triton": "out of memory"} and found.speedup is None
    found = trained({}, {})
    assert found.failed["triton"].startswith("no kernel to train with (verified; none was benched")
    assert set(found.arms) == {"baseline"}
    found = trained({"rope": "PASS"}, {"rope": "SAME"})
    assert found.failed == {"triton": "no kernel to train with (verified and FASTER)"}


def test_as_little_confinement_as_will_do_is_left_out(monkeypatch, tmp_path):
    tried = []

    def attempt(setting, without, box):
        tried.append(without)
        kernel = None if without == "seccomp" else "cannot be launched"
        device = None if without else "error 304"
        return {"device": device, "triton_fused": kernel, "torch.compile": "no compiler"}, ["network"]

    monkeypatch.setattr(confined, "_attempt", attempt)
    monkeypatch.setenv(confined.WITHOUT, "")
    found = confined.confined(Setting(tmp_path, Root(tmp_path)), TimeBox.of(60.0))
    assert tried == ["", "landlock", "seccomp"] and os.environ[confined.WITHOUT] == "seccomp"
    assert found.without == "seccomp" and set(found.failed) == {"", "landlock"}
    monkeypatch.setattr(confined, "_attempt", lambda *_: ({"device": "error 304"}, []))
    with pytest.raises(StepFailed, match="no confined job works on the GPU: device: error 304"):
        confined.confined(Setting(tmp_path, Root(tmp_path)), TimeBox.of(60.0))


@pytest.mark.parametrize(
    ("stages", "found"),
    [([], {"device": "start: ended by SIGSEGV"}), (["k"], {"device": None, "k": "start: ended by SIGSEGV"})],
)
def test_what_a_job_had_come_through_before_it_died_is_fine(monkeypatch, tmp_path, stages, found):
    class Engine:
        def run(self, job, args, *, on_progress, **_):
            on_progress({"unenforced": ["reads"]})
            for stage in stages:
                on_progress({"stage": stage})
            raise JobFailed("crash", "start: ended by SIGSEGV")

    monkeypatch.setattr(confined, "ENGINES", {"cuda": Engine()})
    assert confined._attempt(Setting(tmp_path, Root()), "", TimeBox.of(10.0)) == (found, ["reads"])


class Timed:
    """What `verdicts` asks for, without a GPU: canned verdicts of verify, and of `bench` what the verb would say."""

    def __init__(self, monkeypatch, verified, *answers):
        self.asked, answers = [], iter(answers)
        record = SimpleNamespace(verdict=verified) if verified else None
        monkeypatch.setattr(verdicts, "known", lambda setting, of, kernel: record if of is VerifyRecord else None)
        monkeypatch.setattr(Setting, "verb", lambda self_, box, *words, **_: self.asked.append(words) or next(answers))
        self.kernel = _triton_kernels()[0]

    def bench(self, tmp_path, compiler=None):
        return verdicts.bench_one(Setting(tmp_path, Root()), self.kernel, TimeBox.of(500.0), compiler)


@pytest.fixture
def at_a_gpu(monkeypatch, tmp_path):
    """A setting as on a GPU, with captured calls whose content is "now"."""
    setting = Setting(tmp_path, Root(tmp_path))
    setting.catalog = _catalog()
    device, software = {"kind": "cuda", "key": "cuda-1"}, {"key": "s", "lab": "l"}
    setting.lab = Lab.of(Context(ENGINES["cuda"], device, software), setting.root)
    captured = {"now": SimpleNamespace(sha256="now")}
    for module in (verdicts, basics):
        monkeypatch.setattr(module, "newest_workloads", lambda *_: captured["now"])
    setting.captured = captured
    return setting


def verified_on(setting, kernel, workloads):
    return setting.lab.ledger.append(
        "verify", **setting.lab.context.fields(), target=kernel.target, verdict="PASS", results={},
        kernel={"name": kernel.name, "sha256": kernel.sha256}, workloads={"sha256": workloads},
        settings={"contract_sha256": setting.catalog[kernel.target].contract_sha256},
    )  # fmt: skip


def test_a_verdict_is_known_for_the_calls_that_are_captured_here(at_a_gpu):
    kernel = _triton_kernels()[0]
    assert verdicts.known(at_a_gpu, VerifyRecord, kernel) is None
    verified_on(at_a_gpu, kernel, "earlier")
    assert verdicts.known(at_a_gpu, VerifyRecord, kernel) is None
    record = verified_on(at_a_gpu, kernel, "now")
    assert verdicts.known(at_a_gpu, VerifyRecord, kernel) == record
    assert verdicts.known(at_a_gpu, BenchRecord, kernel) is None
    at_a_gpu.captured["now"] = None  # a fresh machine, to which only the ledger came
    assert verdicts.known(at_a_gpu, VerifyRecord, kernel) is None


def test_a_profile_is_known_while_its_captured_calls_are_the_newest(monkeypatch, at_a_gpu):
    asked = []

    def before(lab, preset, fingerprint, selection):
        asked.append((preset, fingerprint, {kernel.role for kernel in selection.kernels.values()}))
        return profile if fingerprint == "stdlib" else None

    profile = SimpleNamespace(workloads={"rope": SimpleNamespace(sha256="now")})
    monkeypatch.setattr(basics, "known_profile", before)
    monkeypatch.setattr(basics, "open_dataset", lambda folder: SimpleNamespace(fingerprint=folder.name))
    assert basics.earlier_profile(at_a_gpu) is None and asked == []  # there is no ledger yet
    verified_on(at_a_gpu, _triton_kernels()[0], "now")
    assert basics.earlier_profile(at_a_gpu) is profile and asked == [("upstream", "stdlib", {"baseline"})]
    at_a_gpu.dataset = "another"
    assert basics.earlier_profile(at_a_gpu) is None
    at_a_gpu.dataset = "stdlib"
    at_a_gpu.captured["now"] = SimpleNamespace(sha256="later")
    assert basics.earlier_profile(at_a_gpu) is None
    at_a_gpu.captured["now"] = None
    assert basics.earlier_profile(at_a_gpu) is None


def test_the_device_is_asked_once_for_all_that_a_campaign_starts(monkeypatch, tmp_path):
    device, versions = {"kind": "cuda", "name": "a GPU"}, {"torch": "2.11.0", "triton": None}
    answers = [DescribeAnswer(device=device, software=versions)]
    monkeypatch.setattr(machine, "short_job", lambda *_: answers.pop())
    ask = machine.context.__wrapped__  # what it remembers is this process's alone
    here = ask(ENGINES["cuda"], Root(tmp_path))
    with machine.described(here):
        assert ask(ENGINES["cuda"], Root(tmp_path)) == here
        for another in (ENGINES["cpu"], replace(ENGINES["cuda"], interpreted=True)):
            with pytest.raises(IndexError):
                ask(another, Root(tmp_path))
    with pytest.raises(IndexError):
        ask(ENGINES["cuda"], Root(tmp_path))


def test_a_bench_without_a_rival_that_has_come_since_is_done_again(monkeypatch, at_a_gpu):
    kernel = next(kernel for kernel in _triton_kernels() if kernel.target == "rms_norm")
    target = at_a_gpu.catalog["rms_norm"]
    record = SimpleNamespace(
        settings=SimpleNamespace(libraries=[SimpleNamespace(name="torch_library")]),
        results=SimpleNamespace(left_out={"liger": "failed"}),
    )
    assert verdicts._timed_beside(record) == {"torch_library", "liger"}
    monkeypatch.setattr(verdicts, "_timed_beside", lambda record: known)
    at_a_gpu.lab.ledger.append(
        "bench", **at_a_gpu.lab.context.fields(), target="rms_norm", verdict="FASTER",
        kernel={"name": kernel.name, "sha256": kernel.sha256}, workloads={"sha256": "now"}, results={},
        settings={"contract_sha256": target.contract_sha256},
    )  # fmt: skip
    known = verdicts._rivals(target)
    assert known and verdicts.known(at_a_gpu, BenchRecord, kernel) is not None
    known = known - {sorted(known)[0]}
    assert verdicts.known(at_a_gpu, BenchRecord, kernel) is None


FASTER = Completed(0, json.dumps({"verdict": "FASTER", "results": {"reason": ""}}), "", 30.0)


def test_what_did_not_pass_verification_is_not_timed(monkeypatch, tmp_path):
    for verdict in (None, "FAIL"):
        timed = Timed(monkeypatch, verdict)
        assert timed.bench(tmp_path).reason == "no verification passed here" and timed.asked == []


def test_where_the_compiler_fails_its_arm_is_left_out(monkeypatch, tmp_path):
    timed = Timed(monkeypatch, "PASS", FASTER)
    told = timed.bench(tmp_path, compiler="no compiler")
    assert told.verdict == "FASTER" and told.without_compiled_arm == "no compiler"
    assert "--no-compiled-arm" in timed.asked[0]
    timed = Timed(monkeypatch, "PASS", Completed(1, "", "error: InductorError: no", 5.0), FASTER)
    told = timed.bench(tmp_path)
    assert told.verdict == "FASTER" and "InductorError" in told.without_compiled_arm
    assert ["--no-compiled-arm" in words for words in timed.asked] == [False, True]
    timed = Timed(monkeypatch, "PASS", Completed(None, "", "", 90.0))
    assert timed.bench(tmp_path).reason == "out of time after 90 s" and len(timed.asked) == 1


def test_what_to_carry_is_in_the_versions_installed_here_with_what_it_needs():
    found = packages.to_carry(["torch", "triton", "numpy", "SciPy"])
    names = {line.partition("==")[0] for line in found}
    assert {"pydantic", "pydantic-core", "click", "typing-extensions"} <= names
    assert not {"torch", "numpy", "scipy", "sympy"} & names
    # What is not here is taken as new as it comes.
    assert all("==" in line or not packages._version(line) for line in found)


def test_nothing_is_judged_where_confined_jobs_do_not_start(parts_of):
    def broken(setting, box):
        raise StepFailed("error 304")

    counted = GpuTests(passed=1, failed=0, error=0, skipped=0, lines=[], unfinished=False)
    parts = parts_of("confined,verify,bench,tests", confined=broken, tests=found(counted))
    assert {name: part["state"] for name, part in parts.items()} == {
        "confined": "failed", "verify": "skipped", "bench": "skipped", "tests": "done",
    }  # fmt: skip
    assert parts["bench"]["reason"] == "without confined it cannot be done"


def test_tests_that_ran_out_of_time_count_as_far_as_they_came(monkeypatch, tmp_path):
    printed = "tests/gpu/test_a.py::test_one PASSED [ 10%]\ntests/gpu/test_a.py::test_two[x y] FAILED [ 20%]\n"
    out_of_time = Completed(None, printed, "", 90.0)
    monkeypatch.setattr("autoresearch_lab.campaign.gpu.setting.run_command", lambda *_: out_of_time)
    setting = Setting(tmp_path, Root(tmp_path))
    for part, kind in ((basics.tests, GpuTests), (basics.rows, BigRows)):
        tested = part(setting, TimeBox.of(90.0))
        assert type(tested) is kind and (tested.passed, tested.failed, tested.unfinished) == (1, 1, True)
    kept = [path.read_text() for path in (setting.work / "failures").iterdir()]
    assert len(kept) == 2 and all(printed in text and "out of time" in text for text in kept)


def _catalog():
    from autoresearch_lab.catalog import load_catalog

    return load_catalog(Root())
