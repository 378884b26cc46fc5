"""Where the published implementations are, for the tests that need them.

SAR_HOSTS names a folder with clones of the repositories CoOp, multimodal-prompt-learning (MaPLe),
PromptSRC, KgCoOp and Dassl.pytorch. Dassl itself also needs scikit-learn.
"""

import os
from importlib.util import find_spec

import pytest

HOSTS = os.environ.get("SAR_HOSTS", "")
# A trainer and the folder with the train.py that has it.
CHECKOUTS = {
    "CoOp": "CoOp",
    "MaPLe": "multimodal-prompt-learning",
    "PromptSRC": "PromptSRC",
    "KgCoOp": "KgCoOp/KgCoOp",
}
needs_checkouts = pytest.mark.skipif(
    not HOSTS, reason="SAR_HOSTS is not set: it names the folder with the checkouts"
)
needs_dassl = pytest.mark.skipif(
    not HOSTS or find_spec("sklearn") is None,
    reason="SAR_HOSTS, the folder of the checkouts and Dassl.pytorch, and scikit-learn are needed",
)
