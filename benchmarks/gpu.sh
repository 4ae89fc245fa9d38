#!/bin/sh
# Everything that wants a GPU, in one call of at most nine minutes; docs/cuda.md, "A GPU at hand".
#     benchmarks/gpu.sh                 on a machine with an NVIDIA GPU
#     benchmarks/gpu.sh --rehearse      the same path on a CPU: small shapes, Triton's interpreter, no figures
# PYTHON: the interpreter to use. A bare machine has PyTorch and its Triton; every other package that
# `python -m benchmarks.gpu.packages` names travels beside the checkout's files as a wheel, in wheels/ (docs/cuda.md has
# the command that fetches them), and is unpacked here first. Unpacking counts as part of the nine minutes.
set -u
GPU_SH_BEGAN=$(date +%s)
export GPU_SH_BEGAN
cd "$(dirname "$0")/.." || exit 2
PYTHON=${PYTHON:-$(command -v python3 || command -v python)}
[ -n "$PYTHON" ] || { echo "error: no python3 here; set PYTHON" >&2; exit 2; }
packages=$PWD/build/gpu-packages
if ls wheels/*.whl >/dev/null 2>&1 && [ "$(ls wheels)" != "$(cat "$packages/.ready" 2>/dev/null)" ]; then
    "$PYTHON" -m pip install --quiet --no-index --no-deps --upgrade --target "$packages" wheels/*.whl &&
        ls wheels >"$packages/.ready"
fi
# Behind the machine's own packages, so that nothing that it has is replaced.
exec "$PYTHON" -c 'import sys; sys.path.append(sys.argv.pop(1)); from benchmarks.gpu.main import main; sys.exit(main())' \
    "$packages" "$@"
