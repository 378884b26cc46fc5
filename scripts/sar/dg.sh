#!/usr/bin/env bash
# Domain generalization: train on one dataset, test on its classes in other styles.
#
#   bash scripts/sar/dg.sh                   train on demo_food
#   DATA=/path bash scripts/sar/dg.sh SOURCE SEED [TRAINER] [KEY VALUE ...]
#
# With imagenet as SOURCE the tests are on ImageNet-V2, -Sketch, -A, -R; else set TARGETS="A B".
# More settings come from the environment, see protocol.sh.
exec bash "$(dirname "${BASH_SOURCE[0]}")/protocol.sh" domain-generalization "$@"
