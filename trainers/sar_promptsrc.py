"""SAR_PromptSRC: PromptSRC whose text prompts keep the class relations of hand-crafted prompts."""

from sar.trainer import SARTrainerMixin


class SARPromptSRC(SARTrainerMixin):
    """Its own regularization and its average over the epochs stay as they are."""

    host_trainer = "promptsrc.PromptSRC"
