"""A lab in a temporary folder whose engine answers at once, with a speed and a quality that the test plants."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from autoresearch_common.hashing import file_sha256, json_sha256
from autoresearch_lab.ab.run import ab
from autoresearch_lab.ab.settings import Settings
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.engine import Engine
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.promote.selection import resolve

FINGERPRINT = "f" * 64
STEP_SECONDS = 0.02
BPB_PER_LOG_STEPS = 0.25


class PlantedEngine(Engine):
    """Plays the jobs. `plan` says how: gain (relative speed), harm (bits per byte), noise (s.d. of log-ratios), early
    (factor on the candidate's early divergence), rounding (the same of the baseline in float32), foreign (share),
    calls, changes, raises (a JobFailed for a job's name), raises_once (the same, the first time only), compiled ({arm:
    its relative speed compiled, or why it does not train so}), dies_after (number of jobs before the parent is
    "killed"), presets ({preset: what holds there instead})."""

    plan: dict = {}
    asked: list = []
    folders: set = set()

    def perform(self, job, args, *, run_dir, limits=None, modules=(), variables=None, on_progress=None):
        plan = self.plan
        plan.update(plan.get("presets", {}).get(args.get("preset"), {}))
        if plan.get("dies_after") is not None and len(self.asked) >= plan["dies_after"]:
            raise KeyboardInterrupt
        self.asked.append((job, args))
        run_dir.mkdir(parents=True, exist_ok=True)
        kernels = args.get("selection") or args["candidate"]
        candidate = any(kernel["sha256"] == plan["candidate"] for kernel in kernels.values())
        if job in plan.get("raises", {}) and candidate:
            raise plan["raises"][job]
        if job in plan.get("raises_once", {}) and candidate:
            raise plan["raises_once"].pop(job)
        return getattr(self, f"_{job}")(args, run_dir, on_progress or (lambda message: None), candidate)

    def _throughput(self, args, run_dir, report, candidate):
        rng = np.random.default_rng(args["seed"])
        gain, failed = self.plan.get("gain", 0.5), self.plan.get("failed")
        if args["baseline"] == args["candidate"]:  # one arm, eager and compiled
            gain = self.plan.get("compiled", {}).get("candidate" if candidate else "baseline", 0.25)
            gain, failed = (0.0, gain) if isinstance(gain, str) else (gain, None)
        ratio = math.exp(rng.normal(math.log1p(gain), self.plan.get("noise", 0.002)))
        foreign = self.plan.get("foreign", 0.02)
        pair = {"baseline": 1e-6, "candidate": 1e-6 / ratio, "first": "baseline", "foreign": foreign,
                "quiet": foreign <= args["foreign_limit"]}  # fmt: skip
        report({"stage": "race", "done": 1, "total": 1})
        return {"pairs": [pair] * 8, "block_tokens": 10240, "environment": self.plan.get("changes", []),
                "failed": failed, "calls": self.plan.get("calls"), "process": {},
                "setup_seconds": 0.1, "compile_cache": self._compiled(args)}  # fmt: skip

    def _train(self, args, run_dir, report, candidate):
        results = []
        for run in args["runs"]:
            course = np.geomspace(2e-5, 2e-3, run["steps"])
            size = (self.plan.get("early", 1.0) if candidate else 0.0) + (1.0 if run.get("one_ulp") else 0.0)
            size += self.plan.get("rounding", 0.0) if args.get("widened") else 0.0
            losses = (9.0 - 0.01 * np.arange(run["steps"]) + size * course)[: run.get("stop") or None].tolist()
            weights = f"{run['id']}.safetensors" if run.get("save") else None
            if weights:
                content = {"seed": run["seed"], "steps": run["steps"], "candidate": candidate}
                (run_dir / weights).write_text(json.dumps(content))
            lost = "loss is nan at step 3" if candidate and self.plan.get("nan") else None
            results.append({
                "id": run["id"], "losses": losses, "seconds": 1.0, "tokens": 2048 * len(losses), "weights": weights,
                "sha256": file_sha256(run_dir / weights) if weights else None, "failed": lost,
                "environment": self.plan.get("training_changes", []) if candidate else [],
                "peak_memory_mb": 300.04 if candidate else 400.0,
            })  # fmt: skip
            report({"run": results[-1]})
        return {"runs": results, "process": {}, "compile_cache": self._compiled(args)}

    def _check(self, args, run_dir, report, candidate):
        return {"runs": [self._checked(args, run) for run in args["runs"]]}

    def _checked(self, args, run):
        mode = "compiled" if run["compile"] else "eager"
        found = self.plan.get("checks", {}).get(mode)
        target = {"name": "planted", "calls": 100, "checked": 50, "elements": 5000, "worst": 0.5, "bound": 0.06}
        checked = {"targets": dict.fromkeys(args["targets"], target), "steps": run["steps"], "looks": 2, "seconds": 0.1}
        failed = found.get("failed") if found else None
        return {"compile": run["compile"], "failed": failed, "total_seconds": 1.0,
                "checked": {**checked, "wrong": found and found.get("wrong")}}  # fmt: skip

    def _compiled(self, args):
        """The first process with these kernels compiles, the others find what it made."""
        if not (args.get("compile") or args.get("compiled")):
            return None
        names = ("after", "baseline", "candidate", "selection")
        loaded = [args[name] for name in names if args.get(name)]
        if "selection" not in args and args["baseline"] == args["candidate"]:
            loaded.pop()
        name = json_sha256(loaded)[:32]
        new = name not in self.folders
        self.folders.add(name)
        text = dict.fromkeys(("kernels", "engine", "python", "torch", "compiler", "processor", "instructions"), "-")
        counts = {"found": 0 if new else 2, "made": 2 if new else 0, "seconds": 25.0 if new else 3.0}
        return {"name": name, "key": {**text, "threads": 2}, **counts}

    def _evaluate(self, args, run_dir, report, candidate):
        results = []
        for weights in args["weights"]:
            assert file_sha256(weights["path"]) == weights["sha256"]
            with open(weights["path"], encoding="utf-8") as file:
                made = json.load(file)
            rng = np.random.default_rng([made["seed"], made["steps"], made["candidate"]])
            bpb = 2.0 - BPB_PER_LOG_STEPS * math.log(made["steps"] / 100) + 0.006 * math.sin(made["seed"])
            bpb += (self.plan.get("harm", 0.0) + rng.normal(0, 0.0005)) if made["candidate"] else 0.0
            results.append({"id": weights["id"], "val_bpb": bpb, "nats": 1.0, "bytes": 1, "tokens": 1})
            report({"evaluation": results[-1]})
        return {"evaluations": results}


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """`lab.ab(**plan)` runs an A/B of softcap_cross_entropy=torch_library under that plan and returns its record."""
    monkeypatch.delenv("AUTORESEARCH_DATA", raising=False)
    engine = PlantedEngine("cpu", "torch", "cpu", "autoresearch_cuda", "torch", "cpu-nano")
    engine.asked.clear()
    engine.folders.clear()
    context = Context(engine, {"kind": "cpu", "key": "cpu-1"}, {"python": "3", "key": "s1"})
    root = Root(tmp_path)
    root.kernels.mkdir()  # not a link: the lists of promotions lie in it
    for listing in (CHECKOUT / "kernels").glob("*/target.toml"):
        (root.kernels / listing.parent.name).symlink_to(listing.parent)
    monkeypatch.setattr("autoresearch_lab.ab.run.describe_dataset", describe)
    catalog, ledger = load_catalog(root), Ledger(root.ledger)
    here = SimpleNamespace(root=root, engine=engine, context=context, ledger=ledger, catalog=catalog)
    here.target = catalog["softcap_cross_entropy"]
    here.kernel = next(kernel for kernel in here.target.kernels if kernel.role != "baseline")
    here.evidence = lambda kernel=None, **changes: evidence(here, kernel or here.kernel, **changes)
    here.baseline = resolve("baseline", catalog, context, root)

    def run(kernels=None, settings=None, progress=None, **plan):
        engine.plan.clear()
        engine.plan.update(plan, candidate=here.kernel.sha256)
        given = kernels or {here.target.name: here.kernel}
        lab = Lab.of(context, root, ledger)
        asked = settings or Settings()
        return ab(given, here.baseline, lab, preset="cpu-nano", settings=asked, on_progress=progress)

    here.ab = run
    return here


def describe(root, name):
    return {"name": name, "folder": str(root.path), "fingerprint": FINGERPRINT}


def evidence(lab, kernel, verify="PASS", bench="FASTER", predicted=None, arms=()):
    """Append the records that an A/B asks for; benched while the trainer used the baselines."""
    target = lab.catalog[kernel.target]
    common = {
        **lab.context.fields(),
        "target": kernel.target,
        "kernel": {"name": kernel.name, "sha256": kernel.sha256},
        "workloads": {"sha256": "a" * 64, "count": 1, "profile": None},
        "settings": {"contract_sha256": target.contract_sha256},
    }
    if verify:
        lab.ledger.append("verify", **common, verdict=verify)
    if bench:
        running = {name: one.id.plain() for name, one in lab.baseline.running(kernel.target).items()}
        common["settings"] = {**common["settings"], "standing": running}
        results = {"ratio": 2.0, "predicted": predicted, "arms": list(arms)}
        lab.ledger.append("bench", **common, verdict=bench, results=results)
