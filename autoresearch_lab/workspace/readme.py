"""The README of a workspace: all that a person or an agent needs to know to work in it."""

from __future__ import annotations

from pathlib import Path
from string import Template

from autoresearch_lab.catalog import Contract, Target
from autoresearch_lab.workloads import WorkloadSet

_TEXT = Template("""# Workspace: $target ($engine)

$summary.

    $signature

Make `kernel.py` faster and keep it right. It is the only file to change (with `kernel.cpp`, `kernel.cu` or
`kernel.metal` beside it for native code); everything else here is fixed by hash, and a changed file is refused.

| argument | |
|---|---|
$arguments

| output | dtype | shape | |
|---|---|---|---|
$outputs
$notes
## The calls that count

Captured from a real training run (preset $preset); `workloads.safetensors` holds samples of the real values.

| calls per step | arguments |
|---|---|
$workloads

## How to work

    $command verify $folder     # is it right?   exit code 0 = PASS
    $command bench $folder      # is it faster?  exit code 0 = FASTER
    $command ab $folder         # does it make the trainer better?

Every verb takes `--json`. `verify` names the first check that failed, with its numbers. It calls the kernel with the
captured values and with others, on odd shapes and strides, in each dtype ($dtypes), and on
shapes drawn at that moment.

## Rules

- The function `$target` has exactly the signature above, parameters by position.
- Results are plain tensors of the stated dtype and shape that share no memory with the arguments$inplace.
$gradients- The error against float64 (`oracle.py`) is at most $factor times that of the trusted implementations (the
  baseline in `baseline.py`; on a CPU also libraries and the public formula), or the floor in `contract.json`: per
  element, per row and as a whole. Results that are all a little too small or too large fail below that.
- The same input gives the same bits. Nothing is kept from one call to the next that depends on values or addresses.
- Arguments, random state, thread counts, floating-point modes, environment and files stay as they are.
- The source needs its framework, NumPy, math and this project's helpers. What it does beyond that `verify` shows, and
  `orchestrate` does not promote it unless a person allowed it.
- A case that the kernel was not made for is declined with NotImplementedError, never answered wrongly.
- The kernel runs in a process of its own that can write only to its run folder and has no network.
$native
""")

_NATIVE = {
    "torch": """\
- Native code: `from autoresearch_cuda import native`, then `native.load(__file__)` compiles the `.cpp` beside the file;
  the kernels named `cpp_fused.py` under `kernels/` are examples. Flags such as -ffast-math are refused.""",
    "mlx": """\
- Arrays of MLX are values: what the contract updates in place comes back as new arrays.
- Scalars come as Python numbers or, in a compiled step, as arrays of one element.
- Native code: `mx.fast.metal_kernel` inside `mx.custom_function`, made when the file is loaded; for Apple GPUs.""",
}


def readme(target: Target, folder: Path, engine: str, workload_set: WorkloadSet) -> str:
    """The text for one target."""
    contract = target.contract
    inplace = [argument.name for argument in contract.args if argument.inplace]
    grads = [argument.name for argument in contract.args if argument.grad]
    return _TEXT.substitute(
        target=contract.name,
        engine=engine,
        native=_NATIVE["mlx" if engine == "mlx" else "torch"],
        summary=contract.summary.rstrip("."),
        signature=f"{contract.name}{contract.signature}",
        arguments="\n".join(_argument_rows(contract)),
        outputs="\n".join(f"| {o.name} | {o.dtype} | {o.shape} | {o.doc} |" for o in contract.outputs),
        notes=f"\nIt stands in for {', '.join(contract.replaces)} as well.\n" if contract.replaces else "",
        preset=workload_set.preset,
        workloads="\n".join(_workload_rows(workload_set)),
        command=f"kernel-lab --engine {engine}",
        folder=folder,
        dtypes=", ".join(contract.tolerance.floor),
        inplace=f"; {', '.join(inplace)} are updated in place and returned" if inplace and engine != "mlx" else "",
        gradients=(
            f"- Differentiable in {', '.join(grads)}: for any cotangent, and when only some of them need a gradient.\n"
            if grads
            else ""
        ),
        factor=f"{contract.tolerance.factor:g}",
    )


def _argument_rows(contract: Contract) -> list[str]:
    rows = []
    for argument in contract.args:
        marks = [word for word, holds in (("gradient", argument.grad), ("in place", argument.inplace)) if holds]
        rows.append(f"| {argument.name} | {argument.doc}{' (' + ', '.join(marks) + ')' if marks else ''} |")
    return rows


def _workload_rows(workload_set: WorkloadSet) -> list[str]:
    rows = []
    for workload in workload_set.workloads:
        words = [
            f"{spec['name']} {spec['dtype']} {tuple(spec['shape'])}, strides {tuple(spec['strides'])}"
            if spec["kind"] == "array"
            else f"{spec['name']} = {spec['value']}"
            for spec in workload["args"]
        ]
        rows.append(f"| {workload['calls_per_step']:g} | {'; '.join(words)} |")
    return rows
