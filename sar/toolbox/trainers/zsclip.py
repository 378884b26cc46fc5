"""Zero-shot CLIP: hand-crafted prompts, no training.

A. Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML
2021; the templates are those CoOp uses for each dataset.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from sar.classes.templates import template_for
from sar.predictions.chance import does_not_know, near_chance
from sar.toolbox.clip.prompted import Classifier, hand_crafted_features
from sar.toolbox.engine import TRAINER_REGISTRY, TrainerX
from sar.toolbox.features import shared_predictions
from sar.toolbox.trainers.prompt_learning import load_clip_to_cpu


class CustomCLIP(Classifier):
    """CLIP with the text features of one hand-crafted prompt for each class."""

    text_features: Tensor  # (n_cls, D)

    def __init__(self, clip_model: Any, text_features: Tensor) -> None:
        super().__init__(clip_model)
        self.image_encoder = clip_model.visual
        self.register_buffer("text_features", text_features)

    def classify(self, image_features: Tensor) -> Tensor:
        return self.logits(image_features, self.text_features)


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(TrainerX):
    """Classifies by the frozen text features of one template per dataset; fp32."""

    @property
    def template(self) -> str:
        """With one {} for the class name."""
        return template_for(self.cfg.DATASET.NAME)

    def build_model(self) -> None:
        print(f"Loading CLIP (backbone: {self.cfg.MODEL.BACKBONE.NAME})")
        clip_model = load_clip_to_cpu(self.cfg)
        names = self.dm.dataset.classnames
        features = hand_crafted_features(clip_model, names, self.template, self.device)
        self.model = CustomCLIP(clip_model, features).to(self.device)

    def train(self) -> None:  # type: ignore[override]
        """Nothing to train: tests at once."""
        print("ZeroshotCLIP is not trained")
        if not self.cfg.TEST.NO_TEST:
            self.test()

    def test(self, split: str | None = None) -> float:
        """As any trainer's test; says so if it is hardly better than guessing."""
        accuracy = super().test(split)
        loader = self.val_loader if (split or self.cfg.TEST.SPLIT) == "val" else self.test_loader
        pictures = len(loader.dataset)  # type: ignore[arg-type, union-attr]
        if near_chance(accuracy, self.num_classes, pictures):
            print(f"Note: {does_not_know('these pictures', accuracy, self.num_classes)}")
        return accuracy

    def predictions(self, loader: "DataLoader[Any]", desc: str) -> Iterator[tuple[Tensor, Tensor]]:
        return shared_predictions(self.model, loader, self.device, desc)
