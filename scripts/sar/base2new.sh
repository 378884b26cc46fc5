#!/usr/bin/env bash
# Base-to-new: train on base classes, test on base and on new classes, print the table.
#
#   bash scripts/sar/base2new.sh             the main job, on demo data
#   DATA=/path bash scripts/sar/base2new.sh DATASET SEED [TRAINER] [KEY VALUE ...]
#
# DATASET is a file in configs/datasets, or "all" for the field's eleven.
# More settings come from the environment, see protocol.sh.
exec bash "$(dirname "${BASH_SOURCE[0]}")/protocol.sh" base2new "$@"
