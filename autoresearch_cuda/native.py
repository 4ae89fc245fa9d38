"""Compiles and loads the C++ source beside a kernel file, and registers its operators with PyTorch.

A kernel `cpp_fused.py` calls `native.load(__file__)`; its sibling `cpp_fused.cpp` has a plain C interface and needs no
PyTorch headers, so a compile takes well under a second. Shared objects are cached in `<cache root>/native`, see
`autoresearch_common.compiler`.

A source is compiled for the instruction set in use (`autoresearch_common.instruction_set`), which it sees through
vector.h and gemm.h; and with AddressSanitizer where the process asks for that (`autoresearch_common.sanitizer`).

Floating point stays IEEE: fast-math flags are refused, because linking with them makes the whole process flush
denormals to zero, the other arm of a comparison included. OpenMP runs on the runtime that torch has loaded, so its
thread count is torch's.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from autoresearch_common import compiler as system_compiler
from autoresearch_common import instruction_set, sanitizer
from autoresearch_common.hashing import kernel_hash
from autoresearch_common.instruction_set import InstructionSet
from autoresearch_cuda.operators import Operators
from autoresearch_trainer.errors import KernelError

# Argument types of C functions: a tensor's data_ptr(), int64_t, a dtype code or other int, float, int64_t* and double*.
POINTER, INTEGER, CODE, REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float
INTEGERS, REALS = ctypes.POINTER(ctypes.c_int64), ctypes.POINTER(ctypes.c_double)
HEADERS = Path(__file__).parent
_DTYPE_CODES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-Wall", "-fno-math-errno", "-fno-trapping-math")
_FORBIDDEN = ("-ffast-math", "-Ofast", "-funsafe-math-optimizations", "-ffinite-math-only", "-mdaz-ftz")
# Operators outlive the module that defined them: loading the same content again finds them here.
_namespaces: dict[str, Native] = {}


class NativeError(KernelError):
    """A native kernel could not be built or loaded."""


class CompilerMissing(NativeError):
    """There is no C++ compiler on this machine."""


class CompileFailed(NativeError):
    """The compiler refused the source; the message carries its first error line."""


class Native:
    """The compiled source of one kernel, and the operators made from it.

    `namespace` is unique to the kernel's content and the instruction set, so that two versions can live in one process;
    loading one content twice gives the same object.
    """

    def __init__(self, namespace: str, shared_object: Path) -> None:
        self.namespace = namespace
        self.path = shared_object
        self._library = ctypes.CDLL(str(shared_object))
        self._operators = Operators(namespace, ("CPU",))

    def function(self, name: str, *argument_types: Any) -> Callable[..., int]:
        """The C function `name`, which returns an int status. Tensors are passed as `tensor.data_ptr()`.

        Raises NativeError if the source exports no such function.
        """
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise NativeError(f"{self.path} exports no function {name!r}") from None
        function.argtypes = list(argument_types)
        function.restype = ctypes.c_int
        return function

    @property
    def operator(self) -> Callable[..., Callable[..., Any]]:
        """Define a PyTorch operator of this kernel, see `Operators.define`."""
        return self._operators.define


def load(kernel_file: str | Path, flags: Sequence[str] = ()) -> Native:
    """Compile (or find in the cache) the .cpp beside a kernel's Python file and load it.

    `flags` are added to the compiler's. Raises CompilerMissing, CompileFailed, or NativeError for a missing source, a
    flag that would change floating-point arithmetic for the whole process, an instruction set that this processor has
    not, or an object that cannot be loaded.
    """
    kernel_file = Path(kernel_file)
    source = kernel_file.with_suffix(".cpp")
    if not source.is_file():
        raise NativeError(f"no native source {source}")
    if refused := sorted(set(flags) & set(_FORBIDDEN)):
        raise NativeError(f"{source.name}: {' '.join(refused)} would change floating-point arithmetic; not allowed")
    namespace = f"kernel_{kernel_hash(kernel_file)[:16]}_{_active().name}"
    if namespace not in _namespaces:
        shared_object = build(source, flags)
        try:
            _namespaces[namespace] = Native(namespace, shared_object)
        except OSError as error:
            raise NativeError(f"cannot load {shared_object}: {error}") from error
    return _namespaces[namespace]


def build(source: Path, flags: Sequence[str] = ()) -> Path:
    """The shared object of a C++ source, from the cache where possible.

    The name is a hash of everything that the result depends on: source, headers, compiler, flags, instruction set.
    Raises as `load` does.
    """
    compiler, version = _compiler()
    compile_flags, link_flags = _openmp("clang" in version)
    command = [*FLAGS, *_active().compiler_flags, *compile_flags, *flags]
    if sanitizer.active():
        command += sanitizer.COMPILE_FLAGS
        link_flags += sanitizer.CLANG_LINK_FLAGS if "clang" in version else sanitizer.LINK_FLAGS
    settings = (compiler, version, command, link_flags)
    headers = [path.read_bytes() for path in sorted(HEADERS.glob("*.h"))]
    digest = system_compiler.digest([source.read_bytes(), *headers, repr(settings).encode()])

    def make(target: Path) -> None:
        _compile(source, target, compiler, command, link_flags)

    return system_compiler.cached("native", f"{digest}.so", make)


def dtype_code(tensor: torch.Tensor) -> int:
    """The code of native.h for the tensor's dtype. Raises TypeError for one that kernels do not take."""
    try:
        return _DTYPE_CODES[tensor.dtype]
    except KeyError:
        raise TypeError(f"native kernels take float32, bfloat16 and float16, not {tensor.dtype}") from None


def integers(values: Sequence[int]) -> ctypes.Array:
    """An int64_t array for an INTEGERS argument, such as sizes or strides."""
    return (ctypes.c_int64 * len(values))(*values)


def reals(values: Sequence[float]) -> ctypes.Array:
    """A double array for a REALS argument."""
    return (ctypes.c_double * len(values))(*values)


def _compile(source: Path, target: Path, compiler: Sequence[str], flags: Sequence[str], link: Sequence[str]) -> None:
    """Compile and link in two steps: with -fopenmp at the link the compiler would add its own OpenMP runtime."""
    compiled = target.with_suffix(".o")
    include = f"-I{HEADERS}"
    try:
        system_compiler.run([*compiler, *flags, include, "-c", str(source), "-o", str(compiled)], source.name)
        system_compiler.run([*compiler, "-shared", str(compiled), *link, "-o", str(target)], source.name)
    except system_compiler.CompileFailed as error:
        raise CompileFailed(str(error)) from error


def _active() -> InstructionSet:
    try:
        return instruction_set.active()
    except instruction_set.InstructionSetError as error:
        raise NativeError(str(error)) from None


def _compiler() -> tuple[tuple[str, ...], str]:
    try:
        return system_compiler.find()
    except system_compiler.CompilerMissing as error:
        raise CompilerMissing(str(error)) from None


@cache
def _openmp(clang: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Compile and link flags for OpenMP through the runtime that torch carries; the system's where it carries none."""
    torch_folder = Path(torch.__file__).parent
    if sys.platform == "darwin":
        runtime = torch_folder / "lib" / "libomp.dylib"
        if not runtime.is_file():
            return ("-fopenmp-simd",), ()
        return ("-Xpreprocessor", "-fopenmp"), (str(runtime), f"-Wl,-rpath,{runtime.parent}")
    if clang:
        return ("-fopenmp",), ("-fopenmp",)
    folders = (torch_folder / "lib", torch_folder.parent / "torch.libs")
    for runtime in (path for folder in folders for path in sorted(folder.glob("libgomp*.so*"))):
        return ("-fopenmp",), (str(runtime), f"-Wl,-rpath,{runtime.parent}")
    return ("-fopenmp",), ("-fopenmp",)
