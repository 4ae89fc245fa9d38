"""Which arms a bench has: the library's, compiled ones, and what the trainer uses now."""

import pytest

from autoresearch_common import compiler
from autoresearch_lab.bench.run import choose_arms, compiles
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root
from autoresearch_lab.promote.selection import baseline
from autoresearch_lab.results.bench import BenchResults

CPU, CUDA = ENGINES["cpu"], ENGINES["cuda"]
ROLES = ["baseline", "control", "library", "library"]


@pytest.fixture(scope="module")
def catalog():
    return load_catalog(Root())


def arms(catalog, target, kernel, engine=CPU, compiled=True, **chosen):
    """What is timed for that kernel where the trainer uses `chosen` ({target: kernel}), the baselines elsewhere."""
    using = {name: catalog[name].kernel(one, "torch") for name, one in chosen.items()}
    running = baseline(catalog, engine).with_kernels(using).running(target)
    context = Context(engine, {"key": "a-device"}, {"key": "some-software"})
    return choose_arms(catalog[target].kernel(kernel, "torch"), catalog[target], context, running, compiled)


def test_the_compiled_baseline_is_an_arm_to_beat_and_the_candidate_stands_in_a_graph(catalog):
    target = catalog["rms_norm"]
    found = arms(catalog, "rms_norm", "triton_fused", CUDA)
    others = [kernel.name for kernel in target.with_role("library", "torch", "cuda")]  # as far as they are installed
    compiled = ["torch_eager (compiled)", "triton_fused (compiled)"]
    assert [arm.name for arm in found[2:]] == [*others, *compiled, "triton_fused"]
    assert [arm.role for arm in found[-3:]] == ["library", "graph", "candidate"]
    assert [arm.compiled for arm in found] == [False] * (len(found) - 3) + [True, True, False]
    assert found[-3].kernel.file == found[0].kernel.file and found[-3].recorded().name == "torch_eager (compiled)"
    assert [arm.beside for arm in found] == [False, False, *[True] * (len(found) - 3), False]
    assert [arm.role for arm in arms(catalog, "rms_norm", "cpp_fused")] == [*ROLES, "graph", "candidate"]
    assert not any(arm.compiled for arm in arms(catalog, "rms_norm", "cpp_fused", compiled=False))


def test_of_the_optimizer_only_the_baseline_is_compiled(catalog):
    assert [arm.role for arm in arms(catalog, "muon_update", "cpp_fused")] == [*ROLES[:3], "candidate"]


def test_a_cpu_compiles_no_formula_but_the_baselines(catalog):
    def libraries(target, **how):
        return [arm.name for arm in arms(catalog, target, "cpp_fused", **how) if arm.role == "library"]

    assert libraries("muon_update") == ["torch_eager (compiled)"] and libraries("newton_schulz", compiled=False) == []
    assert libraries("rms_norm") == ["torch_library", "torch_eager (compiled)"]
    on_a_gpu = [arm.name for arm in arms(catalog, "mlp", "triton_fused", CUDA) if arm.role == "library"]
    assert on_a_gpu[-1] == "torch_eager (compiled)" and "torch_library" in on_a_gpu


def test_a_composite_is_timed_as_it_stands_in_the_trainer(catalog):
    found = arms(catalog, "loss_head", "torch_library", softcap_cross_entropy="cpp_fused", rope="cpp_fused")
    standing, compiled = (arm for arm in found if arm.role == "standing")
    assert standing.name == "torch_eager with softcap_cross_entropy=cpp_fused" and not standing.compiled
    assert compiled.name == standing.name + " (compiled)" and compiled.compiled
    assert list(standing.parts) == ["softcap_cross_entropy"] and standing.kernel.name == "torch_eager"
    assert not any(arm.role == "standing" for arm in arms(catalog, "loss_head", "torch_library", rope="cpp_fused"))


def test_a_kernel_in_use_is_timed_too_unless_it_is_the_candidate(catalog):
    (used, _) = (arm for arm in arms(catalog, "rope", "torch_library", rope="cpp_fused") if arm.role == "standing")
    assert used.name == "cpp_fused" and not used.parts
    assert not any(arm.role == "standing" for arm in arms(catalog, "rope", "cpp_fused", rope="cpp_fused"))


def test_what_is_compiled_without_being_asked(catalog, monkeypatch):
    monkeypatch.setattr(compiler, "find", lambda: (("g++",), ""))
    monkeypatch.setattr(compiler, "python_headers", lambda: None)
    where = {name: compiles(target, CPU)[0] for name, target in catalog.items()}
    assert {name for name, compiled in where.items() if not compiled} == {"adamw_update", "newton_schulz"}
    assert compiles(catalog["adamw_update"], CPU, True) == compiles(catalog["adamw_update"], CUDA) == (True, {})
    assert compiles(catalog["mlp"], CPU, False) == compiles(catalog["mlp"], ENGINES["mlx"], True) == (False, {})


def test_without_a_compiler_the_compiled_arms_are_left_out_in_words(catalog, monkeypatch):
    def missing():
        raise compiler.CompilerMissing("no C++ compiler (g++)")

    monkeypatch.setattr(compiler, "find", missing)
    assert compiles(catalog["mlp"], CPU) == (False, {"the compiled baseline": "no C++ compiler (g++)"})


def test_what_a_candidate_saves_is_told_by_the_arms_of_the_same_mode():
    rows = [
        ("baseline", False, 9.0), ("library", False, 7.0), ("library", True, 6.0), ("standing", False, 5.0),
        ("standing", True, 4.0), ("graph", True, 3.0), ("candidate", False, 2.0),
    ]  # fmt: skip
    timed = [{"role": role, "name": role, "compiled": compiled, "ms": ms} for role, compiled, ms in rows]
    found = BenchResults.model_validate({"arms": timed})
    saved = {(compiled, standing): found.saved_ms(compiled, standing) for compiled in (0, 1) for standing in (0, 1)}
    assert saved == {(0, 0): 7.0, (0, 1): 3.0, (1, 0): 3.0, (1, 1): 1.0}
    assert found.model_copy(update={"least_ms": 3.5}).saved_ms(True, True) == 0.5
    assert found.model_copy(update={"least_ms": 8.0}).saved_ms(True, True) == 1.0  # a floor that was undercut
    assert BenchResults().saved_ms(False, False) is None
