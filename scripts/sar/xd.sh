#!/usr/bin/env bash
# Cross-dataset: train on all classes of one dataset, test on others, print the table.
#
#   bash scripts/sar/xd.sh                   train on demo_food
#   DATA=/path bash scripts/sar/xd.sh SOURCE SEED [TRAINER] [KEY VALUE ...]
#
# With imagenet as SOURCE the tests are on the ten other datasets; else set TARGETS="A B".
# More settings come from the environment, see protocol.sh.
exec bash "$(dirname "${BASH_SOURCE[0]}")/protocol.sh" cross-dataset "$@"
