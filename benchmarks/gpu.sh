#!/usr/bin/env bash
# Training speed on one GPU: bf16 notes per second and utilisation of musicbert_small and musicbert_base, with and without
# torch.compile, against the same model in float32 with padded batches and full heads.   bash benchmarks/gpu.sh
# Prints one JSON object. Further arguments go to benchmarks/gpu_training.py; --dry-run tries the whole logic on a CPU.
set -eu
cd "$(dirname "$0")/.."
if [ -x .venv/bin/python ]; then python=.venv/bin/python; else python=${PYTHON:-python3}; fi
exec "$python" -m benchmarks.gpu_training "$@"
