#!/usr/bin/env bash
# A catalogue of products, and a new line that comes: names alone, no pictures, no training.
#
#   bash examples/catalogue.sh [KEY VALUE ...]     settings of the training
#
# Also read: OUTPUT (a folder), SEEDS="1 2 3". Started again after an interruption, it continues.
# Exit status 0: what the story says was found (the last lines say what that is).
set -euo pipefail

project="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
output="${OUTPUT:-$project/output/catalogue}" seeds="${SEEDS:-1 2 3}"
python="$project/.venv/bin/python"
[[ -x "$python" ]] || python=python
export PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
sarclip() { "$python" -m sar "$@"; }
say() { printf '\n== %s\n\n' "$*"; }
shop="$output/shop" today="$output/shop/today" both="$output/shop/tomorrow"

say "The pictures of today's catalogue"
[[ -d "$shop" ]] || "$python" "$project/examples/demo_shop.py" DemoFood "$shop"
sarclip data check "$today"

say "Train on today's catalogue: CoOp and SAR_CoOp"
sarclip protocol few-shot --datasets image_folder --root "$today" --cfg pocket --shots 16 \
    --trainers CoOp,SAR_CoOp --seeds "${seeds// /,}" --output "$output/runs" "$@"

# evaluate NAME MODEL [OPTION ...]: twice, before and after the names of the new line are known.
evaluate() {
    local place="$output/evaluations" name="$1"
    shift
    [[ -f "$place/today/$name/scores.json" ]] ||
        sarclip evaluate "$1" "$both" "${@:2}" --unknown --calibrate --output "$place/today/$name"
    [[ -f "$place/tomorrow/$name/scores.json" ]] ||
        sarclip evaluate "$1" "$both" "${@:2}" --calibrate --output "$place/tomorrow/$name"
} >>"$output/evaluations.log"
run() { echo "$output/runs/today/$1/pocket_16shots/seed$2"; }

say "A new line of products: before its names are known, and after"
evaluate ZeroshotCLIP pocket --classes "$today/classes.yaml" --novel "$today/classes.yaml" \
    --held-out "$today/val"
for seed in $seeds; do # two at a time
    evaluate "CoOp-$seed" "$(run CoOp "$seed")" &
    evaluate "SAR_CoOp-$seed" "$(run SAR_CoOp "$seed")"
    wait "$!"
done

say "Export; the folder alone labels pictures in a process of its own as the training's does"
known=("$both" --unknown --calibrate --json)
named="$(run SAR_CoOp "${seeds%% *}")"
[[ -d "$output/classifier" ]] || sarclip export "$named" --to "$output/classifier" \
    --classes "$shop/tomorrow.yaml" --unknown --calibrate
sarclip predict "$named" --classes "$shop/tomorrow.yaml" "${known[@]}" "$output/run.json" &
sarclip predict "$output/classifier" "${known[@]}" "$output/exported.json"
wait "$!"
cmp "$output/run.json" "$output/exported.json"
echo "Not a bit differs"

say "All of it"
sarclip report "$output" --title "A new line of products"
sarclip results "$output" --write
"$python" "$project/examples/catalogue_holds.py" "$output/summary.json"
