"""Zero-shot CLIP: hand-crafted prompts, no training.

A. Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML
2021; the templates are those CoOp uses for each dataset.
"""

import torch
from torch import Tensor, nn

from sar.toolbox.engine import TRAINER_REGISTRY
from sar.toolbox.features import FrozenImageEncoder
from sar.toolbox.trainers.prompt_learning import load_clip_to_cpu, normalize, tokenize_prompts


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(FrozenImageEncoder):
    """Classifies by the frozen text features of one template per dataset; fp32."""

    def build_model(self) -> None:
        from sar.classes.templates import template_for

        print(f"Loading CLIP (backbone: {self.cfg.MODEL.BACKBONE.NAME})")
        self.clip_model = load_clip_to_cpu(self.cfg).to(self.device)
        template = template_for(self.cfg.DATASET.NAME)
        names = self.dm.dataset.classnames
        prompts = [template.format(name.replace("_", " ")) for name in names]
        print(f"Prompts: {prompts}")
        with torch.no_grad():
            features = self.clip_model.encode_text(tokenize_prompts(prompts).to(self.device))
        self.text_features = normalize(features)

    def train(self) -> None:  # type: ignore[override]
        """Nothing to train: tests at once."""
        print("ZeroshotCLIP is not trained")
        if not self.cfg.TEST.NO_TEST:
            self.test()

    def image_tower(self) -> nn.Module:
        return self.clip_model.visual

    def encode_images(self, images: Tensor) -> Tensor:
        return normalize(self.clip_model.encode_image(images))

    def classify(self, features: Tensor) -> Tensor:
        return self.clip_model.logit_scale.exp() * features @ self.text_features.t()
