#!/bin/sh
# Everything that wants a GPU, in two calls of at most four and seven minutes; docs/cuda.md, "A GPU at hand".
#     benchmarks/gpu.sh --parts first|second     on a machine with an NVIDIA GPU
#     benchmarks/gpu.sh --rehearse               the same path on a CPU: small shapes, Triton's interpreter, no figures
# PYTHON: the interpreter to use. A bare machine has PyTorch and its Triton; everything else travels in the folders that
# `python -m benchmarks.gpu.bundle` makes, and is unpacked here first, which counts as part of the time.
set -u
GPU_SH_BEGAN=${GPU_SH_BEGAN:-$(date +%s)}
export GPU_SH_BEGAN
cd "$(dirname "$0")/.." || exit 2
# A bundle as it was sent: work goes on in a copy beside it, with what earlier calls left there.
if [ -f .sent ]; then
    lab=$(dirname "$PWD")/lab
    mkdir -p "$lab" && cp -R ./. "$lab/" && rm "$lab/.sent" || exit 2
    exec sh "$lab/benchmarks/gpu.sh" "$@"
fi
PYTHON=${PYTHON:-$(command -v python3 || command -v python)}
[ -n "$PYTHON" ] || { echo "error: no python3 here; set PYTHON" >&2; exit 2; }
if [ -f .commit ]; then COMMIT=$(cat .commit); export COMMIT; fi
packages=$PWD/build/gpu-packages
if ls wheels/*.whl >/dev/null 2>&1 && [ "$(ls wheels)" != "$(cat "$packages/.ready" 2>/dev/null)" ]; then
    "$PYTHON" -m pip install --quiet --no-index --no-deps --upgrade --target "$packages" wheels/*.whl &&
        ls wheels >"$packages/.ready"
fi
# What is built on CuTe DSL came in two pieces, the second with the second trip.
rivals=$PWD/build/gpu-rivals
if [ -f rivals.0 ] && [ -f ../2/rivals.1 ] && [ ! -f "$rivals/.ready" ]; then
    cat rivals.0 ../2/rivals.1 | "$PYTHON" -c 'import sys, tarfile
tarfile.open(fileobj=sys.stdin.buffer, mode="r|xz").extractall(sys.argv[1], filter="data")' "$rivals" &&
        touch "$rivals/.ready"
fi
# Behind the machine's own packages, so that nothing that it has is replaced; for every process that is started, too.
exec "$PYTHON" -c 'import os, site, sys
for folder in (sys.argv.pop(1), sys.argv.pop(1)):
    if os.path.isdir(folder):
        site.addsitedir(folder)
os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
from benchmarks.gpu.main import main
sys.exit(main())' "$packages" "$rivals" "$@"
