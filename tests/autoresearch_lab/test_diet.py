"""A kernel's diet: honest kernels have no findings, and each kind of thing beyond it is found in a small example."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.diet import DietFinding, findings, summary
from autoresearch_lab.paths import CHECKOUT, Root

EXPLOITS = CHECKOUT / "tests" / "exploits"
KERNELS = [kernel for target in load_catalog(Root()).values() for kernel in target.kernels]
# Honest ones that truly go beyond.
BEYOND = {
    "relu_squared_result_or_argument": ["imports weakref"],
    "newton_schulz_float32": ["imports importlib.util"],  # loads the baseline by hand, as no kernel needs to
    "rms_norm_thread_pool": ["imports concurrent.futures"],
}
# What those cheats that do something around themselves are known by. The others only compute what is wrong, or keep
# results, which is for `verify` to find.
SEEN = {
    "after_100_seconds": "imports time",
    "autocast_to_float16": "calls torch.set_autocast_dtype",
    "autograd_in_one_thread": "calls torch._C._set_multithreading_enabled",
    "casts_kept_inside_a_model": "imports weakref",
    "clips_what_is_accumulated": "calls register_post_accumulate_grad_hook",
    "collector_off": "imports gc",
    "compiler_settings": "writes torch._dynamo.config.suppress_errors",
    "compiler_settings_at_the_first_call": "writes torch._dynamo.config.suppress_errors",
    "crashes": "imports os",
    "default_dtype": "calls torch.set_default_dtype",
    "defaults_of_a_function": "writes torch.nn.functional.layer_norm.__defaults__",
    "environment_variable": "writes os.environ",
    "every_100th_call_when_compiled": "keeps count in _calls",
    "every_300th_call_behind_layers": "keeps count in _calls",
    "every_thousandth_call": "keeps count in _calls",
    "exits": "imports os",
    "fast_math_library": "imports ctypes",
    "fewer_iterations": "imports autoresearch_trainer.kernel_files",
    "flushes_subnormals": "calls torch.set_flush_denormal",
    "forges_an_answer": "imports json",
    "four_iterations_for_the_trainer": "imports autoresearch_cuda.optim",
    "fresh_memory_left_unfilled": "imports ctypes",
    "fused_attention_off": "calls torch.backends.cuda.enable_flash_sdp",
    "gelu_is_silu": "writes torch.nn.GELU.forward",
    "gradients_left_off": "switches torch.set_grad_enabled",
    "hangs": "imports time",
    "hook_on_every_module": "calls torch.nn.modules.module.register_module_forward_hook",
    "hook_on_the_gatherer": "calls register_prehook",
    "hook_where_gradients_gather": "calls register_post_accumulate_grad_hook",
    "import_fails": "imports no_such_module_anywhere",
    "import_path": "imports sys",
    "kills_its_parent": "imports signal",
    "large_diverged_losses_are_zero": "imports autoresearch_trainer.kernel_files",
    "large_one_in_two_hundred": "keeps count in _calls",
    "large_ones_saved_in_a_queue": "imports weakref",
    "large_weights_add_what_they_hold": "imports autoresearch_trainer.kernel_files",
    "last_loss_of_evaluations": "imports autoresearch_trainer.kernel_files",
    "leaks_descriptors": "imports os",
    "leaks_mapped_memory": "includes sys/mman.h",
    "logs_silenced": "imports logging",
    "malloc_options": "imports ctypes",
    "mask_traps_division_by_zero": "uses _MM_SET_EXCEPTION_MASK",
    "memory_traced": "imports tracemalloc",
    "message_queue": "imports ctypes",
    "mkldnn_products_in_bfloat16": "writes torch.backends.mkldnn.matmul.fp32_precision",
    "moments_of_parameters_in_eight_bits": "imports weakref",
    "mu_written_in": "imports autoresearch_trainer.kernel_files",
    "muon_update_one_percent_small": "imports autoresearch_trainer.kernel_files",
    "native_thread_goes_on": "uses std::thread",
    "newton_schulz_half_a_percent_small": "imports autoresearch_trainer.kernel_files",
    "norm_of_the_stack": "imports autoresearch_trainer.kernel_files",
    "numbers_of_the_trainer": "imports sys",
    "numpy_prints_otherwise": "calls numpy.set_printoptions",
    "one_call_in_500": "imports random",
    "openmp_dynamic": "uses omp_set_dynamic",
    "opens_a_socket": "imports socket",
    "order_changes": "keeps count in _calls",
    "overrides_an_aten_operator": "registers something for torch's own operators (aten)",
    "own_step_counter": "keeps count in _calls",
    "patches_a_tensors_operator": "writes torch.Tensor.__mul__",
    "patches_comparison": "writes torch.allclose",
    "patches_linear_layers": "writes torch.nn.Linear.forward",
    "patches_the_clock": "writes time.perf_counter_ns",
    "patches_the_module_call": "writes torch.nn.Module.__call__",
    "patches_the_schedule": "writes autoresearch_cuda.native.load",
    "posix_shared_memory": "imports multiprocessing",
    "process_limits": "imports resource",
    "process_outlives_the_job": "imports os",
    "program_left_running": "imports subprocess",
    "random_state": "calls torch.manual_seed",
    "reads_passwords": "imports pathlib",
    "reads_the_baselines_folder": "imports pathlib",
    "reads_the_home": "imports pwd",
    "result_held_weakly": "imports weakref",
    "rounding_mode_in_workers": "uses fesetround",
    "saved_in_a_ring": "keeps count in _count",
    "saved_in_a_ring_of_16": "keeps count in _count",
    "saved_tensor_hooks_left_on": "reaches __enter__",
    "schedule_by_a_partial": "writes autoresearch_trainer.train.weight_decay_multiplier",
    "silences_logging": "imports logging",
    "silences_warnings": "imports warnings",
    "smoothed_labels_by_default": "writes torch.nn.functional.cross_entropy.__defaults__",
    "standard_error_closed_natively": "includes fcntl.h",
    "standard_output_gone": "imports io",
    "stop_signals_ignored_natively": "includes csignal",
    "system_v_shared_memory": "imports ctypes",
    "thread_count": "calls torch.set_num_threads",
    "thread_left_running": "imports threading",
    "warnings_are_errors": "imports warnings",
    "weight_gradient_one_thousandth_small": "imports autoresearch_trainer.kernel_files",
    "workers_on_one_core": "includes sched.h",
    "writes_outside": "imports pathlib",
}


def found(folder: Path, code: str, native: str = "") -> list[str]:
    (folder / "kernel.py").write_text(code, encoding="utf-8")
    if native:
        (folder / "kernel.cpp").write_text(native, encoding="utf-8")
    return [str(finding) for finding in findings(folder / "kernel.py")]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: f"{kernel.target}-{kernel.name}")
def test_the_catalogue_keeps_to_its_diet(kernel) -> None:
    assert findings(kernel.path) == []


@pytest.mark.parametrize("path", sorted((EXPLOITS / "honest").glob("*.py")), ids=lambda path: path.stem)
def test_honest_kernels_have_no_findings(path: Path) -> None:
    said = [finding.what.partition(";")[0] for finding in findings(path)]
    assert said == BEYOND.get(path.stem, [])


@pytest.mark.parametrize("path", sorted((EXPLOITS / "cheats").glob("*.py")), ids=lambda path: path.stem)
def test_cheats_that_do_something_around_themselves_are_seen(path: Path) -> None:
    said = [finding.what for finding in findings(path)]
    if path.stem in SEEN:
        assert any(what.startswith(SEEN[path.stem]) for what in said)
    else:
        assert said == []


def test_a_finding_is_one_line_of_english(tmp_path: Path) -> None:
    assert found(tmp_path, "import math\n\nimport os\n") == [
        "kernel.py line 3: imports os; a kernel needs its framework, math and this project's helpers"
    ]
    made = DietFinding("kernel.py", 3, "imports os")
    assert str(made) == "kernel.py line 3: imports os"
    assert summary(["a", "b", "c", "d", "e"]) == "a; b; c; and 2 more" and summary(["a"]) == "a"


@pytest.mark.parametrize(
    "name",
    "os sys gc inspect threading ctypes subprocess time socket pathlib importlib multiprocessing signal weakref atexit "
    "builtins os.path json oracle torch_eager autoresearch_cuda autoresearch_cuda.engine autoresearch_lab".split(),
)
def test_other_imports(tmp_path: Path, name: str) -> None:
    for code in (f"import {name}", f"from {name} import x", f"def f():\n    import {name} as y"):
        (line,) = found(tmp_path, code + "\n")
        assert f" imports {name}" in line and line.endswith(
            "a kernel needs its framework, math and this project's helpers"
        )


ALONE = {
    "from . import oracle": "imports from beside itself (.)",
    "from .oracle import forward": "imports from beside itself (.oracle)",
    "from autoresearch_cuda import engine": "imports autoresearch_cuda.engine",
    "from torch import *": "imports everything from torch",
    "import torch.utils.cpp_extension": "imports torch.utils.cpp_extension, which builds and loads native code",
    "from torch.utils import cpp_extension": "imports torch.utils.cpp_extension",
    "from torch.utils.cpp_extension import load_inline": "imports torch.utils.cpp_extension",
    "from torch import os": "reaches os through torch",
    "from torch.overrides import TorchFunctionMode": "imports torch.overrides",
    "__import__('os')": "uses __import__",
    "exec('x = 1')": "uses exec",
    "run = eval": "uses eval",
    "compile('x', 'y', 'exec')": "uses compile",
    "open('/proc/self/maps')": "uses open",
    "globals()['x'] = 1": "writes globals()",
    "globals().update(x=1)": "writes globals()",
    "print(__builtins__)": "uses __builtins__",
    "def f(g):\n    return g.__globals__": "reaches __globals__",
    "def f(g):\n    g.__code__ = None": "reaches __code__",
    "def f(g):\n    return getattr(g, '__closure__')": "reaches __closure__",
    "def f(g):\n    return g._getframe(1).f_back": "reaches _getframe",
    "def f(g):\n    return g.f_back": "reaches f_back",
    "def f(x):\n    type(x).__add__ = None": "writes type(x).__add__",
    "def f(x):\n    x.__class__ = None": "writes x.__class__",
    "def f(x):\n    setattr(x.__class__, 'a', 1)": "changes x.__class__ (setattr)",
    "n = 0\n\n\ndef f(x):\n    global n\n    n = 1": "assigns n of the whole file (global)",
    "n = [0]\n\n\ndef f(x):\n    n[0] += 1": "keeps count in n",
    "def f(module):\n    module.register_forward_hook(print)": "calls register_forward_hook: a hook",
}
WITH_TORCH = {
    "torch.foo = 1": "writes torch.foo",
    "del torch.foo": "deletes torch.foo",
    "torch.Tensor.__add__ = None": "writes torch.Tensor.__add__",
    "T = torch.Tensor\nT.__add__ = None": "writes torch.Tensor.__add__",
    "F.relu = None": "writes torch.nn.functional.relu",
    "def f(x):\n    torch.backends.mkldnn.enabled = False": "writes torch.backends.mkldnn.enabled",
    "setattr(torch, 'foo', 1)": "changes torch (setattr)",
    "delattr(F, 'relu')": "changes torch.nn.functional (delattr)",
    "object.__setattr__(torch, 'foo', 1)": "changes torch (__setattr__)",
    "vars(torch)['foo'] = 1": "writes vars(torch)",
    "torch.__dict__['foo'] = 1": "writes torch.__dict__",
    "torch.__dict__.update(foo=1)": "writes torch.__dict__",
    "native.CODE[1] = 2": "writes autoresearch_cuda.native.CODE",
    "torch.os.environ": "reaches os through torch",
    "torch.sys.modules": "reaches sys through torch",
    "torch.ctypes": "reaches ctypes through torch",
    "getattr(torch, 'os')": "reaches os through torch",
    "np.ctypeslib": "uses numpy.ctypeslib",
    "np.load('x.npy')": "uses numpy.load, which is for files",
    "torch.set_num_threads(1)": "calls torch.set_num_threads",
    "torch.set_flush_denormal(True)": "calls torch.set_flush_denormal",
    "torch.use_deterministic_algorithms(True)": "calls torch.use_deterministic_algorithms",
    "torch.manual_seed(0)": "calls torch.manual_seed",
    "torch.set_default_dtype(torch.float64)": "calls torch.set_default_dtype",
    "torch.set_float32_matmul_precision('high')": "calls torch.set_float32_matmul_precision",
    "torch._C._set_default_dtype(1)": "calls torch._C._set_default_dtype",
    "torch.backends.cuda.enable_flash_sdp(False)": "calls torch.backends.cuda.enable_flash_sdp",
    "torch.set_grad_enabled(False)": "switches torch.set_grad_enabled",
    "off = torch.set_grad_enabled(False)": "switches torch.set_grad_enabled",
    "torch.no_grad().__enter__()": "reaches __enter__",
    "torch.library.Library('aten', 'IMPL')": "registers something for torch's own operators (aten)",
    "@torch.library.impl('aten::add', 'CPU')\ndef add(x):\n    pass": "registers something for torch's own operators",
    "torch.ops.aten.add.Tensor.py_impl('CPU')": "replaces an implementation of torch",
    "torch.utils.cpp_extension.load_inline('x')": "uses torch.utils.cpp_extension",
    "torch.multiprocessing.spawn(print)": "uses torch.multiprocessing",
    "torch.nn.modules.module.register_module_forward_hook(print)": "a hook runs in other code's calls",
}
IMPORTS = (
    "import numpy as np\nimport torch\nimport torch.nn.functional as F\n\nfrom autoresearch_cuda import native\n\n"
    "used = np, torch, F, native\n"
)


@pytest.mark.parametrize("code", ALONE)
def test_each_kind_of_thing_beyond(tmp_path: Path, code: str) -> None:
    assert any(ALONE[code] in line for line in found(tmp_path, code + "\n"))


@pytest.mark.parametrize("code", WITH_TORCH)
def test_each_kind_of_thing_done_to_what_is_imported(tmp_path: Path, code: str) -> None:
    assert any(WITH_TORCH[code] in line for line in found(tmp_path, IMPORTS + code + "\n"))


@pytest.mark.parametrize(
    "code",
    [
        "with torch.set_grad_enabled(False):\n    pass",
        "def f(ctx, x):\n    ctx.eps = 1\n    x.grad = None\n    setattr(ctx, 'n', 2)",
        "def f(F):\n    F.kept = 1",
        "def f(x, compile, open):\n    return compile(x), open",
        "cache = {}\n\n\ndef f(x):\n    cache[x.shape] = x",
        "def f(x):\n    parts = [0]\n    parts[0] += 1",
        "def f(x):\n    x.register_hook(lambda g: g)\n    return torch.random, x.time",
        "@torch.library.custom_op('mine::f', mutates_args=())\ndef f(x: torch.Tensor) -> None:\n    pass",
        "@torch.compile\ndef f(x):\n    return vars(x), x.__class__, x.__dict__",
        "from triton import language as tl\nfrom collections.abc import Callable\nimport mlx.core as mx",
    ],
)
def test_what_an_honest_kernel_may_do(tmp_path: Path, code: str) -> None:
    assert found(tmp_path, IMPORTS + code + "\n") == []


NATIVE = {
    "#include <fstream>": "includes fstream",
    '#include "beside.h"': "includes beside.h",
    "#include SOMETHING": "includes SOMETHING",
    "# include <sys/mman.h>": "includes sys/mman.h",
    **{
        f"int f() {{ {name}(1); }}": f"uses {name}, which"
        for name in "fork execve execlp syscall dlopen dlsym getenv setenv fopen pthread_create shmget mmap mallopt "
        "setrlimit fesetround _MM_SET_FLUSH_ZERO_MODE _mm_setcsr asm clock_gettime omp_set_num_threads srand".split()
    },
    **{f"int f() {{ return {name}(0); }}": f"calls {name}, which" for name in "system rand time exit".split()},
    "std::ifstream in;": "uses ifstream",
    "std::thread worker(f);": "uses std::thread",
    "auto t = std::time(nullptr);": "calls time",
    "__attribute__((constructor)) void f() {}": "runs by itself when it is loaded or left (constructor)",
    "[[gnu::destructor]] void f() {}": "runs by itself",
    'auto t = R"(a " quote)"; auto u = getenv("x");': "uses getenv",
    "long n = 1'000; char c = '\"'; int x = rand();": "calls rand",
}


@pytest.mark.parametrize("code", NATIVE)
def test_each_kind_of_thing_in_native_code(tmp_path: Path, code: str) -> None:
    (line,) = found(tmp_path, "", f'#include <cmath>\n#include "native.h"\n{code}\n')
    assert line.startswith("kernel.cpp line 3: ") and NATIVE[code] in line


def test_comments_texts_and_own_names_of_native_code_are_no_findings(tmp_path: Path) -> None:
    code = """
#include <algorithm>
#include <omp.h>
#include <immintrin.h>  // not <fstream>
#include "vector.h"
// getenv(), fork()
/* dlopen
   asm */
const char *text = "system() mmap"; const char *raw = R"x(fopen(" )x";
inline __attribute__((always_inline)) float f(float time, float rand, const Clock &c) { return time * rand + c.time(); }
static float exit(int system);
"""
    assert found(tmp_path, "", code) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"x = '\xff'\n", "line 1: the file is not UTF-8 text"),
        (b"def f(:\n", "line 1: the file cannot be parsed (invalid syntax)"),
        (b"x = 1\n\ndef f()\n", "line 3: the file cannot be parsed"),
        (b"x = '\0'\n", "the file cannot be parsed"),
        (b"-" * 100000 + b"1\n", "the file cannot be parsed (it is nested too deeply)"),
    ],
)
def test_a_file_that_is_no_python_is_a_finding(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "kernel.py").write_bytes(content)
    (line,) = map(str, findings(tmp_path / "kernel.py"))
    assert said in line and "\n" not in line


def test_what_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    assert "cannot be read (No such file" in str(findings(tmp_path / "kernel.py")[0])
    (tmp_path / "kernel.py").write_text("\ufeffimport math\n", encoding="utf-8")
    (tmp_path / "kernel.cpp").write_bytes(b"\xff")
    assert [finding.what for finding in findings(tmp_path / "kernel.py")] == ["the file is not UTF-8 text (byte 0)"]
