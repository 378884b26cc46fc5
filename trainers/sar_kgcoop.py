"""SAR_KgCoOp: KgCoOp whose context keeps the class relations of hand-crafted prompts."""

from sar.trainer import SARTrainerMixin


class SARKgCoOp(SARTrainerMixin):
    """KgCoOp's prompts are CoOp's; its own term, distance class by class, stays as it is."""

    host_trainer = "kgcoop.KgCoOp"
