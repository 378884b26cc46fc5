#!/usr/bin/env bash
# Ablation: base-to-new with SAR's components, weight, word source, ... changed.
#
#   bash scripts/sar/ablation.sh             two demo datasets
#   DATA=/path bash scripts/sar/ablation.sh DATASET SEED [TRAINER] [KEY VALUE ...]
#
# STUDIES="weight novel" takes some of: components weight novel temperature divergence sampling; or others,
# which run only if named: regularizer pairs teacher control names rule (docs/regularizers.md).
# More settings come from the environment, see protocol.sh.
exec bash "$(dirname "${BASH_SOURCE[0]}")/protocol.sh" ablation "$@"
