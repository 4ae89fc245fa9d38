#!/bin/sh
# Everything that wants a GPU, in one call of at most nine minutes; docs/cuda.md, "A GPU at hand".
#     benchmarks/gpu.sh                 on a machine with an NVIDIA GPU
#     benchmarks/gpu.sh --rehearse      the same path on a CPU: small shapes, Triton's interpreter, nothing is timed
# PYTHON: the interpreter to use. Wheels in wheels/ are unpacked beside the checkout's code first, for what is missing.
set -u
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
