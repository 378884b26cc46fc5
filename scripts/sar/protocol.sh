#!/usr/bin/env bash
# In front of `sarclip protocol`: positional arguments and environment as in CoOp's scripts.
#
#   bash scripts/sar/protocol.sh PROTOCOL [DATASET SEED [TRAINER] [KEY VALUE ...]]
#
# DATASET is a file in configs/datasets (of xd.sh and dg.sh the one that is trained on), SEED and
# TRAINER may be lists "1 2 3". Also read: DATA (folder of the datasets) TRAINERS="A B" SHOTS CFG
# OUTPUT MODELS JOBS GPUS PER_GPU, for xd.sh and dg.sh TARGETS="A B", for ablation.sh STUDIES="A B".
# Finished jobs are skipped, unfinished ones resumed, nothing is overwritten.
set -euo pipefail

project="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
python="$project/.venv/bin/python"
[[ -x "$python" ]] || python=python

protocol="$1"
shift
args=(--output "${OUTPUT:-$project/output/$protocol}")
if [[ $# -gt 0 ]]; then
    dataset=--datasets
    case "$protocol" in cross-dataset | domain-generalization) dataset=--source ;; esac
    args+=("$dataset" "$1" --seeds "${2:?a SEED must follow the DATASET}")
    shift 2
    if [[ "${1:-}" != --* ]]; then # a flag may stand in place of the TRAINER
        TRAINERS="${1:-${TRAINERS:-}}"
        shift "$(($# > 0))"
    fi
    args+=("$@")
fi
add() { # FLAG VALUE, unless the value is empty
    [[ -z "$2" ]] || args+=("$1" "$2")
}
add --trainers "${TRAINERS:-}"
add --root "${DATA:-}"
add --shots "${SHOTS:-}"
add --cfg "${CFG:-}"
add --targets "${TARGETS:-}"
add --studies "${STUDIES:-}"
add --models "${MODELS:-}"
add --jobs "${JOBS:-}"
add --gpus "${GPUS:-}"
add --per-gpu "${PER_GPU:-}"

PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}" exec "$python" -m sar protocol "$protocol" "${args[@]}"
