"""A kernel's Python, read by its syntax tree."""

from __future__ import annotations

import ast
import builtins
import re
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

_NEEDS = "a kernel needs its framework, math and this project's helpers"
# Each with what lies below it. The last ones are the libraries of kernels that the catalogue compares with.
ALLOWED_IMPORTS = (
    *("torch", "triton", "mlx", "numpy"),
    *("__future__", "abc", "collections", "contextlib", "dataclasses", "enum", "functools", "itertools"),
    *("cmath", "math", "numbers", "operator", "types", "typing", "typing_extensions"),
    *(f"autoresearch_cuda.{name}" for name in ("attention", "flash_4", "kernel_files", "native", "operators")),
    *(f"autoresearch_cuda.{name}" for name in ("triton_device", "triton_kit")),
    *(f"autoresearch_mlx.{name}" for name in ("kernel_files", "metal_kit")),
    *("flash_attn", "liger_kernel", "quack"),
)
# Parts of allowed modules that do more than compute, with what they are for.
BEYOND = {
    "torch.utils.cpp_extension": "builds and loads native code; autoresearch_cuda.native does that for a kernel",
    **dict.fromkeys(
        ("torch.ops.load_library", "torch.classes.load_library", "numpy.ctypeslib", "numpy.f2py"), "loads native code"
    ),
    **dict.fromkeys(("torch.multiprocessing", "torch.distributed"), "is for other processes"),
    **dict.fromkeys(("torch.jit.fork", "torch.utils.data"), "is for work besides the call"),
    **dict.fromkeys(("torch.hub", "torch.package"), "fetches code"),
    **dict.fromkeys(
        ("torch.overrides", "torch.utils._python_dispatch"), "steps between other code and the functions that it calls"
    ),
    **dict.fromkeys(
        (
            *("torch.load", "torch.save", "torch.from_file", "torch.jit.load", "torch.jit.save"),
            *("numpy.load", "numpy.save", "numpy.savez", "numpy.savez_compressed", "numpy.fromfile", "numpy.memmap"),
            *("numpy.loadtxt", "numpy.savetxt", "numpy.genfromtxt", "numpy.DataSource"),
            *("mlx.core.load", "mlx.core.save", "mlx.core.savez", "mlx.core.save_safetensors", "mlx.core.save_gguf"),
        ),
        "is for files",
    ),
}
# Modules of Python that others have imported, and that can be reached through them.
REACHED = frozenset(
    "atexit builtins copyreg ctypes faulthandler fcntl gc glob importlib inspect io linecache logging mmap "
    "multiprocessing os pathlib pickle platform random resource runpy shutil signal socket subprocess sys tempfile "
    "threading time timeit traceback urllib warnings weakref".split()
)
# The framework's own modules of such a name.
NO_MODULES_OF_PYTHON = ("torch.signal", "torch.random", "torch.cuda.random", "numpy.random", "mlx.core.random")
# Calls that set something for the whole process, besides all whose name begins with set_.
SWITCHES = frozenset(
    "torch.use_deterministic_algorithms torch.manual_seed torch.seed torch.random.manual_seed torch.random.seed "
    "torch.cuda.manual_seed torch.cuda.manual_seed_all torch.cuda.seed torch.cuda.seed_all torch.mps.manual_seed "
    "torch._dynamo.reset torch.compiler.reset "
    "mlx.core.random.seed mlx.core.disable_compile mlx.core.enable_compile "
    "numpy.random.seed numpy.seterr numpy.seterrcall numpy.setbufsize".split()
)
# These may be called as a context or a decorator, which puts back what was before.
CONTEXTS = frozenset({"set_grad_enabled", "set_detect_anomaly", "set_multithreading_enabled"})
# Triton asks for it where a kernel needs memory of its own.
HARMLESS_SETTERS = frozenset({"triton.set_allocator"})
LEAVES_THE_KERNEL = {
    **dict.fromkeys(("exec", "eval", "compile"), "runs code that is made at run time"),
    "__import__": "imports what only a run knows",
    **dict.fromkeys(("open", "input", "breakpoint"), "reads or writes outside the call"),
}
INSIDES = frozenset(
    "__globals__ __code__ __builtins__ __closure__ __subclasses__ __getattribute__ __loader__ __import__ __reduce__ "
    "__enter__ __exit__ "
    "_getframe _current_frames f_back f_globals f_locals f_builtins gi_frame cr_frame tb_frame".split()
)
NAMES_OF_INSIDES = frozenset({"__builtins__", "__loader__", "__spec__"})
CHANGERS = frozenset({"setattr", "delattr", "__setattr__", "__delattr__"})
WRITING_METHODS = frozenset({"update", "setdefault", "pop", "popitem", "clear", "__setitem__", "__delitem__"})
FRAMEWORK_OPERATORS = frozenset({"aten", "prim", "prims", "c10d", "inductor"})
_HOOK = re.compile(r"register_\w*hook")


def read(text: str) -> Iterator[tuple[int, str]]:
    """(line, what it does beyond the diet); a file that cannot be parsed is a finding, too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as those of invalid escapes, which are the kernel's own business
            tree = ast.parse(text)
        reading = _Reading()
        reading.read(tree)
    except SyntaxError as error:
        yield error.lineno or 1, f"the file cannot be parsed ({error.msg})"
    except ValueError as error:
        yield 1, f"the file cannot be parsed ({error})"
    except (RecursionError, MemoryError):
        yield 1, "the file cannot be parsed (it is nested too deeply)"
    else:
        yield from reading.found


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_SCOPES = (*_FUNCTIONS, ast.ClassDef)


@dataclass
class _Reading:
    """One reading of a module. scopes: from the module inward, what each name stands for: the dotted path of something
    that was imported, or None for the kernel's own."""

    found: list[tuple[int, str]] = field(default_factory=list)
    scopes: list[dict[str, str | None]] = field(default_factory=list)

    def read(self, scope: ast.AST) -> None:
        """Everything in a module, class or function, its inner ones included."""
        names: dict[str, str | None] = {}
        self.scopes.append(names)
        for node in _within(scope):
            for name in _bound(node):
                names.setdefault(name, None)
            self._imported(node, names)
        for node in _within(scope):  # other names for what is imported, after all imports are known
            if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and (path := self.path(node.value)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names.update({target.id: path for target in targets if isinstance(target, ast.Name)})
        for node in _within(scope):
            if node is not scope and isinstance(node, _SCOPES):
                self.read(node)
            else:
                self.found += ((getattr(node, "lineno", 1), what) for what in self._node(node))
        self.scopes.pop()

    def _imported(self, node: ast.AST, names: dict[str, str | None]) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                names[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})

    def path(self, node: ast.AST | None) -> str | None:
        """The dotted path of what an expression names, if it is something imported: `F.relu` is
        torch.nn.functional.relu."""
        if isinstance(node, ast.Name):
            return next((scope[node.id] for scope in reversed(self.scopes) if node.id in scope), None)
        if isinstance(node, ast.Attribute):
            owner = self.path(node.value)
            return f"{owner}.{node.attr}" if owner else None
        if isinstance(node, ast.Call) and self.builtin(node.func) == "getattr" and len(node.args) > 1:
            owner, name = self.path(node.args[0]), _text(node.args[1])
            return f"{owner}.{name}" if owner and name else owner
        return None

    def builtin(self, node: ast.AST) -> str | None:
        """The name of the builtin that an expression names; None for anything else."""
        own = isinstance(node, ast.Name) and any(node.id in scope for scope in self.scopes)
        return node.id if isinstance(node, ast.Name) and not own and hasattr(builtins, node.id) else None

    def _node(self, node: ast.AST) -> Iterator[str]:
        """What one node does beyond the diet."""
        match node:
            case ast.Import():
                for alias in node.names:
                    yield from _import(alias.name)
            case ast.ImportFrom():
                yield from _import_from(node)
            case ast.Global():
                names = ", ".join(node.names)
                yield f"assigns {names} of the whole file (global): a later call may see what an earlier one left"
            case ast.AugAssign(target=ast.Subscript(value=ast.Name(id=name))) if self._of_the_file(name):
                yield f"keeps count in {name} from call to call"
            case ast.Attribute() | ast.Subscript() if not isinstance(node.ctx, ast.Load):
                yield from self._written(node)
            case ast.Expr(value=ast.Call() as call) | ast.Assign(value=ast.Call() as call) if (
                self._last(call.func) in CONTEXTS
            ):
                yield f"switches {self.path(call.func)} for the whole process"
            case ast.Call():
                yield from self._call(node)
            case ast.Name(id=name) if self.builtin(node) in LEAVES_THE_KERNEL:
                yield f"uses {name}, which {LEAVES_THE_KERNEL[name]}"
            case ast.Name(id=name) if name in NAMES_OF_INSIDES:
                yield f"uses {name}, which belongs to Python itself"
        if isinstance(node, ast.Attribute):
            yield from self._attribute(node.attr, self.path(node))

    def _of_the_file(self, name: str) -> bool:
        """Whether a name seen in a function is the module's own."""
        holder = next((depth for depth in reversed(range(len(self.scopes))) if name in self.scopes[depth]), None)
        return holder == 0 and len(self.scopes) > 1 and self.scopes[0][name] is None

    def _last(self, node: ast.AST) -> str:
        return (self.path(node) or "").rpartition(".")[2]

    def _attribute(self, name: str, path: str | None) -> Iterator[str]:
        if name in INSIDES:
            yield f"reaches {name}, which belongs to Python itself"
        elif path is not None:
            yield from _beyond(path, "uses")

    def _written(self, node: ast.Attribute | ast.Subscript) -> Iterator[str]:
        """Of a place that is assigned or deleted."""
        place = self.path(node) if isinstance(node, ast.Attribute) else self._namespace(node.value)
        if isinstance(node, ast.Subscript):
            place = place or self.path(node.value)
        elif node.attr == "__class__" or self._class_of(node.value):
            place = ast.unparse(node)
        if place is not None:
            yield f"{'deletes' if isinstance(node.ctx, ast.Del) else 'writes'} {place}, which others use too"

    def _class_of(self, node: ast.AST) -> str | None:
        """type(x) or x.__class__, as it is written: whose class that is, only a run knows; None for anything else."""
        typed = isinstance(node, ast.Call) and self.builtin(node.func) == "type" and len(node.args) == 1
        return ast.unparse(node) if typed or (isinstance(node, ast.Attribute) and node.attr == "__class__") else None

    def _namespace(self, node: ast.AST) -> str | None:
        """globals() and the like, and vars(x) or x.__dict__ of what is imported, as they are written; None for anything
        else."""
        if isinstance(node, ast.Call) and self.builtin(node.func) in ("globals", "vars", "locals"):
            return ast.unparse(node) if not node.args or self._foreign(node.args[0]) else None
        named = isinstance(node, ast.Attribute) and node.attr == "__dict__" and self._foreign(node.value)
        return ast.unparse(node) if named else None

    def _foreign(self, node: ast.AST) -> str | None:
        """What is imported, or the class of some value, in words; None for the kernel's own."""
        return self.path(node) or self._class_of(node)

    def _call(self, node: ast.Call) -> Iterator[str]:
        path, function = self.path(node.func), node.func
        name = function.attr if isinstance(function, ast.Attribute) else self.builtin(function) or self._last(function)
        if name in CHANGERS and node.args and (owner := self._foreign(node.args[0])):
            yield f"changes {owner} ({name}), which others use too"
        if name == "getattr" and len(node.args) > 1 and (wanted := _text(node.args[1])):
            yield from self._attribute(wanted, self.path(node))
        if isinstance(function, ast.Attribute) and name in WRITING_METHODS:
            if space := self._namespace(function.value):
                yield f"writes {space}, which others use too"
        if _HOOK.fullmatch(name) and (path or name != "register_hook"):
            yield f"calls {path or name}: a hook runs in other code's calls"
        if path:
            yield from self._framework(path, node)

    def _framework(self, path: str, node: ast.Call) -> Iterator[str]:
        """Calls of something imported."""
        last = path.rpartition(".")[2]
        setter = last.lstrip("_").startswith("set_") and last not in CONTEXTS and path not in HARMLESS_SETTERS
        backend = path.startswith("torch.backends.") and last.startswith(("enable_", "preferred_", "allow_"))
        if path in SWITCHES or setter or backend:
            yield f"calls {path}, which switches something for the whole process"
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        spaces = {value.partition("::")[0] for value in map(_text, given) if value}
        if path.startswith("torch.library.") and (of := spaces & FRAMEWORK_OPERATORS):
            yield f"registers something for torch's own operators ({', '.join(sorted(of))}) with {path}"
        if path.startswith("torch.ops.") and last.startswith("py_"):
            yield f"replaces an implementation of torch ({path})"


def _text(node: ast.AST) -> str | None:
    """The text that stands there; None for anything else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _within(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope; inner functions and classes are among them, but nothing of what they consist of (decorators
    and defaults included, where names mean the same inside as outside)."""
    waiting = deque([scope])
    while waiting:
        node = waiting.popleft()
        yield node
        if node is scope or not isinstance(node, _SCOPES):
            waiting.extend(ast.iter_child_nodes(node))


def _bound(node: ast.AST) -> Iterator[str]:
    """The names that a node binds in the scope that it stands in (of a function: its parameters, in its own)."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
            yield name
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name


def _import(module: str) -> Iterator[str]:
    if any(module == allowed or module.startswith(f"{allowed}.") for allowed in ALLOWED_IMPORTS):
        yield from _beyond(module, "imports")
    else:
        yield f"imports {module}; {_NEEDS}"


def _import_from(node: ast.ImportFrom) -> Iterator[str]:
    if node.level:
        yield f"imports from beside itself ({'.' * node.level}{node.module or ''}); {_NEEDS}"
        return
    module = node.module or ""
    for alias in node.names:
        whole = f"{module}.{alias.name}"
        if alias.name == "*":
            yield f"imports everything from {module}: what that brings cannot be read here"
        # The helpers of this project are named as whole modules: what else their package holds is not for kernels.
        helper = module.startswith("autoresearch_") and "." not in module
        if problem := next(_import(whole if helper else module), None) or next(_beyond(whole, "imports"), None):
            yield problem


def _beyond(path: str, verb: str) -> Iterator[str]:
    """Of the dotted path of something allowed: whether it leads beyond, by its last part (those before are told where
    they are read themselves)."""
    parts = path.split(".")
    if path in BEYOND:
        yield f"{verb} {path}, which {BEYOND[path]}"
    elif verb == "imports" and (part_of := next((name for name in BEYOND if path.startswith(f"{name}.")), None)):
        yield f"imports {path}, which {BEYOND[part_of]}"
    elif len(parts) > 1 and parts[-1].lstrip("_") in REACHED and path not in NO_MODULES_OF_PYTHON:
        if parts[0] in ALLOWED_IMPORTS or path.startswith("autoresearch_"):
            yield f"reaches {parts[-1]} through {'.'.join(parts[:-1])}; {_NEEDS}"
    elif parts[-1] == "__dict__":
        yield f"{verb} {path}, which holds what others use too"
