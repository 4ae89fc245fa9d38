"""What the tests of both engines share: a small in-memory dataset with the interface of Dataset, and a model for it."""

import gc
import importlib.util
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from autoresearch_data.tokens import Tokens
from autoresearch_lab.sandbox import forked, parent
from autoresearch_trainer.config import GPTConfig, TrainConfig

VOCAB = 64
BOS = VOCAB - 1

# Threads that wait give their core away: those of other tests' processes want it, and spinning took half of the time.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Inductor does not try first, in each new cache, what the compiler can do: 8 s, and if it cannot, tests fail anyway.
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")


if importlib.util.find_spec("hypothesis"):  # a bare machine with a GPU has none, and no test there draws anything
    from hypothesis import HealthCheck, settings

    # A machine that is busy, with these very tests, is no fault of what they draw.
    settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("busy")


def _module(name: str) -> ModuleType:
    """A file beside this one."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


metal_runtime, crash_points, mlx_header = map(_module, ("metal_runtime", "crash_points", "mlx_header"))


# What takes most of the time, in seconds of a processor: `make test-quick` goes without, and workers begin with it.
SLOW = {
    "benchmarks/test_gpu_rehearsal.py": 120,
    "autoresearch_lab/cli/test_train_compiled.py": 110,
    "exploits/test_exploits.py": 92,
    "benchmarks/test_gpu_bundle.py": 60,
    "kernels/test_metal_numbers.py": 58,
    "autoresearch_lab/verify/test_verify_run.py": 52,
    "autoresearch_cuda/test_compile_cache.py": 49,
    "kernels/test_kernels.py": 45,
    "autoresearch_lab/verify/test_trusted.py": 43,
    "autoresearch_lab/bench/test_bench_run.py": 42,
    "kernels/test_triton_interpreted.py": 40,
    "autoresearch_lab/ab/test_ab_real.py": 39,
    "autoresearch_mlx/checks/test_checked_training.py": 39,
    "autoresearch_lab/trace/test_capture.py": 34,
    "autoresearch_mlx/test_lab.py": 32,
    "kernels/test_triton_compile.py": 31,
    "autoresearch_lab/cli/test_workspace_without_gpu.py": 30,
    "autoresearch_lab/verify/test_combinations.py": 30,
    "kernels/test_triton_graphs.py": 28,
    "kernels/test_triton_sizes.py": 28,
    "autoresearch_lab/calibrate/test_calibrate.py": 27,
    "kernels/test_cpp_newton_schulz.py": 27,
    "autoresearch_lab/cli/test_selftest.py": 23,
    "kernels/test_metal_verify.py": 23,
    "autoresearch_lab/sandbox/test_supervisor.py": 23,
    "kernels/test_compile.py": 22,
    "kernels/test_mlx_kernels.py": 22,
    "autoresearch_cuda/checks/test_checked_training.py": 21,
    "autoresearch_lab/research/test_night.py": 20,
    "autoresearch_lab/profile/test_cli.py": 20,
    "autoresearch_lab/verify/test_diagnosis.py": 20,
    "autoresearch_lab/versions/test_trial_real.py": 19,
    "kernels/test_triton_verify.py": 19,
    "autoresearch_mlx/probe/test_probe.py": 18,
    "autoresearch_mlx/test_train.py": 17,
    "autoresearch_lab/report/test_page.py": 17,
    "autoresearch_lab/bench/test_bench_session.py": 16,
    "autoresearch_lab/research/test_loop.py": 15,
    "autoresearch_lab/trace/test_machine_code.py": 14,
    "autoresearch_cuda/test_torch_kernels.py": 14,
    "autoresearch_lab/versions/test_evaluation.py": 14,
    "autoresearch_lab/sandbox/test_forked.py": 14,
    "autoresearch_lab/promote/test_crash_points.py": 14,
    "autoresearch_lab/calibrate/test_calibrate_real.py": 13,
    "autoresearch_lab/sandbox/test_confine.py": 12,
    "exploits/test_triton_faults.py": 11,
    "autoresearch_lab/trace/test_deep.py": 11,
    "autoresearch_lab/test_bad_files.py": 11,
    "autoresearch_lab/cli/test_metal_verbs.py": 10,
    "autoresearch_lab/gate/test_compare.py": 10,
    "autoresearch_lab/test_sandbox_parent.py": 9,
    "autoresearch_lab/test_doctor.py": 9,
    "autoresearch_cuda/test_flash_4.py": 8,
    "autoresearch_cuda/probe/test_profiler.py": 8,
    "autoresearch_lab/cli/test_triton_verbs.py": 8,
    "autoresearch_cuda/test_compiling.py": 8,
    "autoresearch_lab/verify/test_negative_controls.py": 8,
    "autoresearch_mlx/metal_cpu/test_faults.py": 8,
    "autoresearch_lab/test_ledger_crash_points.py": 8,
    "autoresearch_lab/workspace/test_workspace.py": 7,
    "autoresearch_lab/versions/test_turns.py": 7,
    "autoresearch_lab/cli/test_train.py": 7,
    "autoresearch_lab/ab/test_ab_rule.py": 7,
    "autoresearch_lab/export/test_export.py": 6,
    "autoresearch_lab/report/test_charts.py": 6,
    "autoresearch_lab/versions/test_rule.py": 6,
    "autoresearch_cuda/test_loop.py": 6,
    "autoresearch_lab/gate/test_gate.py": 6,
    "autoresearch_cuda/test_process.py": 6,
    "autoresearch_mlx/metal_cpu/test_simd.py": 6,
    "tools/test_torch_index.py": 6,
    "exploits/test_in_place.py": 5,
    "exploits/test_metal_faults.py": 5,
    "autoresearch_cuda/probe/test_repeated.py": 5,
    "autoresearch_lab/cli/test_mcp.py": 5,
    "autoresearch_lab/test_evidence_property.py": 5,
    "autoresearch_mlx/metal_cpu/test_kernel.py": 5,
    "autoresearch_lab/watch/test_screen.py": 5,
    "benchmarks/test_gpu_calls.py": 4,
    "kernels/test_native.py": 3,
}


# Tests that take every kernel through everything: `make test` does so with the kernels of three targets, one of the
# optimizer, one that goes row by row, one with products, and `make test-all` with all.
EVERY_KERNEL = {
    "exploits/test_exploits.py": {"test_cheats_are_rejected_and_honest_kernels_pass"},
    "autoresearch_lab/verify/test_trusted.py": {"test_every_member_passes_by_itself"},
    "autoresearch_mlx/test_lab.py": {"test_honest_kernels_pass"},
    "kernels/test_kernels.py": {
        "test_native_kernel_at_every_instruction_set", "test_native_kernel_at_every_other_instruction_set"
    },
    "kernels/test_metal_numbers.py": {
        "test_kernel_agrees_with_the_oracle", "test_attention_in_the_trainers_widths_and_with_shared_keys"
    },
    "kernels/test_metal_verify.py": {"test_kernel_passes_verify_on_the_cpu"},
    "kernels/test_triton_compile.py": {"test_kernel_compiles_without_spills_and_with_wide_loads"},
    "kernels/test_triton_verify.py": {"test_kernel_passes_verify_through_the_interpreter"},
}  # fmt: skip
SAMPLE = {"loss_head", "muon_update", "rms_norm"}
# Of these files it takes others: one target, for tests/exploits has honest kernels of the others; every kernel, the
# others than the sample in the dtype of the trainer alone.
TAKEN = {
    "autoresearch_lab/verify/test_trusted.py": {"rms_norm"},
    "kernels/test_metal_numbers.py": SAMPLE | {"bfloat16"},
}
# Of the kernels that have to be caught, and of planted faults, `make test` takes every 36th one of a file, and of
# the honest kernels of its three targets every eighth. They are sorted by target and by the check that catches them,
# so some of each are there; `make test-all` has all.
EVERY_CHEAT, EVERY_HONEST = 36, 8
CHEATS = {
    "exploits/test_exploits.py", "exploits/test_in_place.py", "exploits/test_metal_faults.py",
    "exploits/test_triton_faults.py",
}  # fmt: skip
# What takes minutes: the bundle for a GPU and its two calls from end to end, and three compiled trainings in processes
# of their own. Their parts have tests of their own.
MINUTES = {
    "benchmarks/test_gpu_bundle.py", "benchmarks/test_gpu_rehearsal.py",
    "autoresearch_lab/cli/test_train_compiled.py",
}  # fmt: skip


def _thorough(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Those that `make test` leaves to `make test-all`."""
    seen = Counter[str]()
    for item in items:
        name = item.path.relative_to(Path(__file__).parent).as_posix()
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        sampled = getattr(item, "originalname", None) in EVERY_KERNEL.get(name, ())
        cheat = name in CHEATS and (not sampled or any(getattr(value, "expected", None) for value in values))
        seen[name] += cheat
        left_out = cheat and seen[name] % EVERY_CHEAT != 1
        taken = TAKEN.get(name, SAMPLE)
        other = sampled and not cheat and taken.isdisjoint(getattr(value, "target", value) for value in values)
        if name in CHEATS and sampled and not cheat and not other:
            seen[f"honest of {name}"] += 1
            other = seen[f"honest of {name}"] % EVERY_HONEST != 1
        if name in MINUTES or left_out or other:
            yield item


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is thorough and what is slow, and divide the latter: one part comes first, the other in the middle,
    where a second worker begins. The tests of a file stay together, because they share what they prepare."""
    here = Path(__file__).parent
    for item in _thorough(items):
        item.add_marker(pytest.mark.thorough)
    alone = [item for item in items if item.get_closest_marker("alone")]  # never run with the others
    of_file: dict[Path, list[pytest.Item]] = {}
    for item in items:
        if not item.get_closest_marker("alone"):
            of_file.setdefault(item.path, []).append(item)
    parts: list[list[pytest.Item]] = [[], []]
    seconds = [0, 0]
    for name, cost in SLOW.items():
        part = seconds.index(min(seconds))
        parts[part] += of_file.get(here / name, [])
        seconds[part] += cost
    slow = {*parts[0], *parts[1]}
    for item in slow:
        item.add_marker(pytest.mark.slow)
    placed = {*slow, *alone}
    rest = [item for item in items if item not in placed]
    middle = max(0, (len(rest) + len(slow)) // 2 - len(parts[0]))
    items[:] = [*parts[0], *rest[:middle], *parts[1], *rest[middle:], *alone]


# Python looks for garbage among all objects, and thousands of tests are many, none of them garbage: they are left out.
# They stay so where what is tested gives back what it had left out itself: after the last test of its file that is
# done.
gc.disable()
_unfreeze, _given_back = gc.unfreeze, list[bool]()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
    gc.unfreeze = lambda: _given_back.append(True)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if _given_back and (nextitem is None or nextitem.path != item.path):
        _given_back.clear()
        _unfreeze()
        gc.collect()
        gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze = _unfreeze
    gc.unfreeze()


def pytest_sessionstart() -> None:
    parent.subprocess = metal_runtime.SUBPROCESS
    # One process serves many tests, which differ in this alone.
    forked.OF_ONE_JOB |= {"PYTEST_CURRENT_TEST"}


@pytest.fixture(autouse=True, scope="session")
def locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Each worker's devices are its own, so that tests which measure do not wait for each other."""
    folder = tmp_path_factory.mktemp("locks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTORESEARCH_LOCKS", str(folder))
        yield folder


@pytest.fixture(autouse=True, scope="session")
def compiler_with_header() -> Iterator[None]:
    folder = mlx_header.folder_of_compiler()
    with pytest.MonkeyPatch.context() as patch:
        if folder is not None:
            patch.setenv("PATH", str(folder), prepend=os.pathsep)
        yield


@pytest.fixture(scope="session")
def crashes() -> Any:
    """Ends an action at each of its writes."""
    return crash_points.CrashPoints()


@pytest.fixture(autouse=True)
def cold(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("cold"):
        monkeypatch.setattr(forked, "start", lambda *args, **options: None)


def _split(seed: int, documents: int) -> Tokens:
    """Documents that count upwards with a random stride, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 60, size=documents)
    starts, strides = rng.integers(0, BOS, size=documents), rng.integers(1, 4, size=documents)
    return Tokens.from_documents(
        ((start + stride * np.arange(length)) % BOS).tolist()
        for start, stride, length in zip(starts, strides, lengths, strict=True)
    )


@pytest.fixture(scope="session")
def dataset() -> SimpleNamespace:
    splits = {"train": _split(1, 3000), "val": _split(2, 400)}
    token_bytes = (np.arange(VOCAB, dtype=np.int32) % 5) + 1
    token_bytes[BOS] = 0
    tokenizer = SimpleNamespace(vocab_size=VOCAB, bos_id=BOS, token_bytes=token_bytes)
    return SimpleNamespace(name="counting", fingerprint="f" * 64, tokenizer=tokenizer, split=splits.__getitem__)


@pytest.fixture
def config() -> TrainConfig:
    """Three layers (two short windows, value embeddings on the outer two), two micro-batches of 2 x 32 tokens."""
    model = GPTConfig(32, VOCAB, n_layer=3, n_head=2, n_kv_head=2, n_embd=32, window_pattern="SSL")
    return TrainConfig(
        "test", model, batch_size=2, total_batch_tokens=128, eval_tokens=256, time_budget=None, steps=14, seed=3
    )
