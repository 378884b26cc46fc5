#!/usr/bin/env bash
# Base-to-new: train on base classes, test on base and on new classes, print the table.
#
#   bash scripts/sar/base2new.sh                                        the main job, on demo data
#   DATA=/path bash scripts/sar/base2new.sh DATASET SEED [TRAINER] [KEY VALUE ...]
#
# DATASET is a file in configs/datasets. Also read: TRAINERS="A B" SHOTS CFG OUTPUT JOBS.
# Finished jobs are skipped, unfinished ones resumed, nothing is overwritten.
set -euo pipefail

project="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
python="$project/.venv/bin/python"
[[ -x "$python" ]] || python=python

args=(--output "${OUTPUT:-$project/output/base2new}")
if [[ $# -gt 0 ]]; then
    args+=(--datasets "$1" --seeds "${2:?a SEED must follow the DATASET}")
    TRAINERS="${3:-${TRAINERS:-}}"
    args+=("${@:4}")
fi
[[ -z "${TRAINERS:-}" ]] || args+=(--trainers "$TRAINERS")
[[ -z "${DATA:-}" ]] || args+=(--root "$DATA")
[[ -z "${SHOTS:-}" ]] || args+=(--shots "$SHOTS")
[[ -z "${CFG:-}" ]] || args+=(--cfg "$CFG")
[[ -z "${JOBS:-}" ]] || args+=(--jobs "$JOBS")

PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}" exec "$python" -m sar protocol base2new "${args[@]}"
