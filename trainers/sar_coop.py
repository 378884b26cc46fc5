"""SAR_CoOp: CoOp whose context keeps the class relations of hand-crafted prompts."""

from sar.trainer import SARTrainerMixin


class SARCoOp(SARTrainerMixin):
    """CoOp's prompts need no adaptation: one context for all classes, independent of the image."""

    host_trainer = "coop.CoOp"
