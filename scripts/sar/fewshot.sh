#!/usr/bin/env bash
# Few-shot: train on 1, 2, 4, 8, 16 images of every class, test on all classes.
#
#   bash scripts/sar/fewshot.sh              two demo datasets
#   DATA=/path bash scripts/sar/fewshot.sh DATASET SEED [TRAINER] [KEY VALUE ...]
#
# SHOTS="1 16" takes others.
# More settings come from the environment, see protocol.sh.
exec bash "$(dirname "${BASH_SOURCE[0]}")/protocol.sh" few-shot "$@"
