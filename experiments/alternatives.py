"""CoOp trained as the free average is tested: by the mean of learned and hand-crafted features."""

import torch
from torch import Tensor
from yacs.config import CfgNode

from sar.classes.templates import template_for
from sar.toolbox.clip import set_precision
from sar.toolbox.clip.prompted import hand_crafted_features, normalize
from sar.toolbox.engine import TRAINER_REGISTRY
from sar.toolbox.trainers.coop import CoOp, CustomCLIP


def extend_cfg(cfg: CfgNode) -> None:
    """Of the mean, the learned features' share."""
    cfg.TRAINER.AVERAGED = CfgNode()
    cfg.TRAINER.AVERAGED.SHARE = 0.5


class AveragedCLIP(CustomCLIP):
    """CoOp's model, whose class features are interpolated in every step, not in tests alone."""

    hand_crafted: Tensor  # (n_cls, D)
    share: float

    def encode_classes(self, prompts: Tensor, *deep_prompts: object) -> Tensor:
        if self._kept_text is not None:
            return self._kept_text
        learned = normalize(self.text_encoder(prompts, self.tokenized_prompts))
        features = normalize(torch.lerp(self.hand_crafted.to(learned), learned, self.share))
        if self._keep_text:
            self._kept_text = features
        return features


@TRAINER_REGISTRY.register()
class AveragedCoOp(CoOp):
    """Cross-entropy of the averaged features; all else is CoOp's."""

    def make_model(self, clip_model: torch.nn.Module) -> AveragedCLIP:
        names, template = self.dm.dataset.classnames, template_for(self.cfg.DATASET.NAME)
        hand_crafted = hand_crafted_features(clip_model, names, template, self.device)
        set_precision(clip_model, self.settings.PREC)
        model = AveragedCLIP(self.cfg, names, clip_model)
        model.register_buffer("hand_crafted", hand_crafted, persistent=False)
        model.share = self.cfg.TRAINER.AVERAGED.SHARE
        return model
