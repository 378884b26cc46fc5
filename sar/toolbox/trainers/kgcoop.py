"""KgCoOp: Knowledge-guided Context Optimization.

H. Yao, R. Zhang, C. Xu, Visual-Language Prompt Tuning with Knowledge-guided Context Optimization,
CVPR 2023, arXiv 2303.13283. Same weights, batch and configuration give the logits, loss and
gradients of the published implementation, with these differences: the hand-crafted prompts are
encoded in fp32 whatever the precision of the training, datasets that have no template of their own
get the generic one, "amp" has the distance term too, and parameters that nothing uses are absent.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from yacs.config import CfgNode

from sar.classes.templates import template_for
from sar.errors import ConfigError
from sar.toolbox.clip import set_precision
from sar.toolbox.clip.prompted import hand_crafted_features
from sar.toolbox.engine import TRAINER_REGISTRY
from sar.toolbox.trainers import coop

# Where KgCoOp's hand-crafted prompts are not CoOp's.
TEMPLATES = {"DescribableTextures": "a photo of a {}, a type of texture."}
# In the checkpoints of the published implementation, but never used by it.
UNUSED_KEYS = ("bias_vectors", "meta_net.")


def extend_cfg(cfg: CfgNode) -> None:
    """Adds to TRAINER.COOP, whose other keys serve KgCoOp as they are."""
    # Weight of the distance term (published runs: 8.0).
    cfg.TRAINER.COOP.W = 1.0


class CustomCLIP(coop.CustomCLIP):
    """CoOp's model, which also tells how far its class features are from hand-crafted ones.

    Args:
        ori_embedding: (n_cls, D) float32, features of the hand-crafted prompts, normalized.
    """

    ori_embedding: Tensor

    def __init__(
        self, cfg: CfgNode, classnames: Sequence[str], clip_model: Any, ori_embedding: Tensor
    ) -> None:
        super().__init__(cfg, classnames, clip_model)
        self.prompt_learner.unused_keys = UNUSED_KEYS
        self.register_buffer("ori_embedding", ori_embedding, persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) -> logits (B, n_cls) and distance (scalar, float32).

        The distance is 1 - cosine, averaged over the classes: half the paper's squared Euclidean
        distance (eq. 3), since features have norm 1.
        """
        image_features = self.encode_images(image)
        text_features = self.encode_classes(self.prompt_learner())
        logits = self.logits(image_features, text_features)
        cosine = F.cosine_similarity(text_features.float(), self.ori_embedding)
        return logits, 1.0 - cosine.mean()


@TRAINER_REGISTRY.register()
class KgCoOp(coop.CoOp):
    """Trains the context vectors by cross-entropy plus TRAINER.COOP.W times the distance."""

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        if cfg.TRAINER.COOP.W < 0:
            raise ConfigError(f"TRAINER.COOP.W is {cfg.TRAINER.COOP.W}; expected a weight >= 0")

    def make_model(self, clip_model: Any) -> CustomCLIP:
        names = self.dm.dataset.classnames
        template = TEMPLATES.get(self.cfg.DATASET.NAME) or template_for(self.cfg.DATASET.NAME)
        features = hand_crafted_features(clip_model, names, template, self.device)
        set_precision(clip_model, self.settings.PREC)
        return CustomCLIP(self.cfg, names, clip_model, features)

    def compute_loss(self, image: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits, distance = self.model(image)
        loss, report = self.cross_entropy(logits, label)
        return loss + self.settings.W * distance, report
