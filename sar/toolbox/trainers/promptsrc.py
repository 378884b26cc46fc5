"""PromptSRC: Self-regulating Prompts.

M. U. Khattak, S. T. Wasim, M. Naseer, S. Khan, M.-H. Yang, F. S. Khan, ICCV 2023, arXiv 2307.06948.
Independent prompts in the first layers of both encoders, kept close to the frozen CLIP by three
losses and by averaging them over the epochs. Same weights, batch and configuration give the losses
and gradients of the published implementation; attribute names are the same, too. Other than there,
fp32, bf16 and amp work, everything follows the device, and a resumed run keeps its average.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from yacs.config import CfgNode

from sar.classes.identity import prompt_name
from sar.classes.templates import imagenet_templates
from sar.divergence import row_kl
from sar.encoding import encode_tokens
from sar.errors import ConfigError
from sar.toolbox.clip import set_precision
from sar.toolbox.clip.prompted import (
    ContextLearner,
    PromptedCLIP,
    TextEncoder,
    normalize,
    tokenize_prompts,
    tokenizer_of,
)
from sar.toolbox.clip.visual_prompts import (
    SelfPromptedImageEncoder,
    check_depth,
    deep_prompts_of,
    text_transformer,
    vision_transformer,
    with_deep_prompts,
)
from sar.toolbox.config import Number
from sar.toolbox.engine import TRAINER_REGISTRY
from sar.toolbox.trainers.maple import initial_words
from sar.toolbox.trainers.prompt_learning import PromptTrainer, context_form


def extend_cfg(cfg: CfgNode) -> None:
    """Adds TRAINER.PROMPTSRC."""
    promptsrc = cfg.TRAINER.PROMPTSRC = CfgNode()
    # Prompts of the image encoder and of the text encoder, in each layer that has any.
    promptsrc.N_CTX_VISION = 4
    promptsrc.N_CTX_TEXT = 4
    # As TRAINER.MAPLE.CTX_INIT; for the text encoder.
    promptsrc.CTX_INIT = "a photo of a"
    # fp32 | fp16 | bf16 | amp, see sar/toolbox/clip/precision.py.
    promptsrc.PREC = "fp16"
    # Layers that get prompts; 1: at the input only; vision also 0: none.
    promptsrc.PROMPT_DEPTH_VISION = 9
    promptsrc.PROMPT_DEPTH_TEXT = 9
    # Weights of the mean absolute difference to the frozen CLIP's text and image features.
    promptsrc.TEXT_LOSS_WEIGHT = 25
    promptsrc.IMAGE_LOSS_WEIGHT = 10
    # Gaussian over the epochs, counted from 1, by which the final model averages the prompts.
    promptsrc.GPA_MEAN = 15
    promptsrc.GPA_STD = 1


VALUES = {
    "TRAINER.PROMPTSRC.TEXT_LOSS_WEIGHT": Number(least=0),
    "TRAINER.PROMPTSRC.IMAGE_LOSS_WEIGHT": Number(least=0),
}


@torch.no_grad()
def teacher_embeddings(clip_model: Any, classnames: Sequence[str]) -> Tensor:
    """Text features (n_cls, D) of the fp32 `clip_model`, averaged over CLIP's ImageNet templates.

    Neither the features nor their mean is normalized.
    """
    names = [prompt_name(name) for name in classnames]
    device = clip_model.logit_scale.device

    def encode(template: str) -> Tensor:
        prompts = [template.format(name) for name in names]
        tokens = tokenize_prompts(prompts, tokenizer=tokenizer_of(clip_model)).to(device)
        return encode_tokens(clip_model, clip_model.token_embedding, tokens)

    return torch.stack([encode(template) for template in imagenet_templates()]).mean(dim=0)


class PromptedTextEncoder(TextEncoder):
    """A text encoder with prompts of its own in the layers behind the first."""

    def __init__(self, clip_model: Any, shared: int, n_ctx: int, depth: int) -> None:
        super().__init__(clip_model, shared)
        self.transformer = with_deep_prompts(clip_model.transformer, n_ctx, depth)

    def forward(self, prompts: Tensor, tokenized_prompts: Tensor) -> Tensor:  # type: ignore[override]
        """prompts (C, 77, d), tokenized_prompts (C, 77) ids -> features (C, D)."""
        return super().forward(prompts, tokenized_prompts, deep_prompts_of(self.transformer))


class VLPromptLearner(ContextLearner):
    """The text context; and what the prompts shall stay close to.

    `fixed_embeddings` (n_cls, D) are the teacher's text features, fp32; `ZS_image_encoder` is the
    frozen image encoder, whose weights are also those of the prompted one.
    """

    fixed_embeddings: Tensor

    def __init__(
        self, cfg: CfgNode, classnames: Sequence[str], clip_model: Any, teacher: Tensor
    ) -> None:
        settings = cfg.TRAINER.PROMPTSRC
        n_ctx = settings.N_CTX_TEXT
        words = initial_words(settings.CTX_INIT, n_ctx)
        super().__init__(words, n_ctx, classnames, clip_model)
        print(f"Number of context vectors of the image encoder: {settings.N_CTX_VISION}")
        self.ZS_image_encoder = clip_model.visual
        self.register_buffer("fixed_embeddings", teacher, persistent=False)

    def forward(self) -> Tensor:
        """Embeddings (n_cls, 77, d) of every class's prompt, without positions."""
        return self.prompts()


class CustomCLIP(PromptedCLIP):
    """CLIP with prompts in both encoders, and the frozen CLIP as their teacher."""

    def __init__(
        self, cfg: CfgNode, classnames: Sequence[str], clip_model: Any, teacher: Tensor
    ) -> None:
        settings = cfg.TRAINER.PROMPTSRC
        depth = settings.PROMPT_DEPTH_VISION
        image_encoder = clip_model.visual
        if depth > 0:
            image_encoder = SelfPromptedImageEncoder(image_encoder, settings.N_CTX_VISION, depth)
        learner = VLPromptLearner(cfg, classnames, clip_model, teacher)
        text_encoder = PromptedTextEncoder(
            clip_model, learner.shared, settings.N_CTX_TEXT, settings.PROMPT_DEPTH_TEXT
        )
        super().__init__(learner, image_encoder, text_encoder, clip_model)

    def forward(self, image: Tensor) -> Any:
        """Images (B, 3, H, W) -> logits (B, n_cls).

        In training, more follows: the teacher's logits, text features and the teacher's (n_cls, D),
        image features and the teacher's (B, D).
        """
        text_features = self.encode_classes(self.prompt_learner())
        image_features = self.encode_images(image)
        logits = self.logits(image_features, text_features)
        if not self.prompt_learner.training:
            return logits
        fixed_text = normalize(self.prompt_learner.fixed_embeddings)
        with torch.no_grad():
            teacher = self.prompt_learner.ZS_image_encoder
            fixed_image = normalize(teacher(image.type(self.dtype)))
            fixed_logits = self.logits(fixed_image, fixed_text.to(fixed_image.dtype))
        return logits, fixed_logits, text_features, fixed_text, image_features, fixed_image


class GaussianAverage:
    """Mean of parameters over epochs, weighted by a Gaussian of the epoch (section 3.3).

    Args:
        mean: the epoch, counted from 1, with the greatest weight. std: in epochs.
        parameters: by name, those to average, which are also those `load` sets.
    """

    def __init__(
        self, mean: float, std: float, epochs: int, parameters: Iterable[tuple[str, nn.Parameter]]
    ) -> None:
        epoch = torch.arange(1, epochs + 1, dtype=torch.float64)
        # The Gaussian, scaled to sum 1 without underflow far from its mean.
        self.weights = (-0.5 * ((epoch - mean) / std) ** 2).softmax(dim=0).tolist()
        self.parameters = dict(parameters)
        self.state: dict[str, Any] = {"weight": 0.0, "sums": {}}

    @torch.no_grad()
    def add(self, epoch: int) -> None:
        """Add the parameters at the end of `epoch`, counted from 0. Sums are fp32."""
        weight, sums = self.weights[epoch], self.state["sums"]
        self.state["weight"] += weight
        for name, parameter in self.parameters.items():
            value = weight * parameter.detach().float()
            sums[name] = sums[name].to(value.device) + value if name in sums else value

    @torch.no_grad()
    def load(self) -> None:
        """Set the parameters to their average."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.state["sums"][name] / self.state["weight"])


@TRAINER_REGISTRY.register()
class PromptSRC(PromptTrainer):
    """Trains the prompts of both encoders; their average over the epochs is the final model."""

    node = "PROMPTSRC"
    registered = "VLPromptLearner"

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        settings = cfg.TRAINER.PROMPTSRC
        for key in ("N_CTX_VISION", "N_CTX_TEXT"):
            if settings[key] < 1:
                raise ConfigError(f"TRAINER.PROMPTSRC.{key} is {settings[key]}; expected >= 1")
        if settings.GPA_STD <= 0:
            raise ConfigError(f"TRAINER.PROMPTSRC.GPA_STD is {settings.GPA_STD}; expected > 0")

    def weights_form(self, cfg: CfgNode) -> dict[str, object]:
        settings = cfg.TRAINER.PROMPTSRC
        n_ctx = settings.N_CTX_TEXT
        keys = ("N_CTX_VISION", "PROMPT_DEPTH_TEXT", "PROMPT_DEPTH_VISION")
        form = context_form(initial_words(settings.CTX_INIT, n_ctx), n_ctx)
        return form | {key: settings[key] for key in keys}

    def make_model(self, clip_model: Any) -> PromptedCLIP:
        settings, names = self.settings, self.dm.dataset.classnames
        key, depth = "TRAINER.PROMPTSRC.PROMPT_DEPTH_{}", settings.PROMPT_DEPTH_VISION
        check_depth(key.format("TEXT"), settings.PROMPT_DEPTH_TEXT, text_transformer(clip_model))
        if depth != 0:
            check_depth(key.format("VISION"), depth, vision_transformer(clip_model))
        teacher = teacher_embeddings(clip_model.float().to(self.device), names).cpu()
        set_precision(clip_model.cpu(), settings.PREC)
        return CustomCLIP(self.cfg, names, clip_model, teacher)

    def is_learnable(self, name: str) -> bool:
        return name == "prompt_learner.ctx" or "VPT" in name

    def build_model(self) -> None:
        super().build_model()
        learnable = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        settings = self.settings
        self.average = GaussianAverage(
            settings.GPA_MEAN, settings.GPA_STD, self.cfg.OPTIM.MAX_EPOCH, learnable
        )

    def compute_loss(self, image: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        settings = self.settings
        logits, fixed_logits, text, fixed_text, images, fixed_images = self.model(image)
        loss, report = self.cross_entropy(logits, label)
        parts = {
            "loss_ce": loss,
            "loss_text": settings.TEXT_LOSS_WEIGHT * F.l1_loss(text.float(), fixed_text.float()),
            "loss_image": settings.IMAGE_LOSS_WEIGHT
            * F.l1_loss(images.float(), fixed_images.float()),
            # KL(teacher || prompted), divided by the number of logits.
            "loss_logits": row_kl(fixed_logits.float(), logits.float(), "sum") / logits.numel(),
        }
        return sum(parts.values(), torch.zeros_like(loss)), {
            **{name: part.detach() for name, part in parts.items()},
            **report,
        }

    def after_epoch(self) -> None:
        """Averages, and after the last epoch uses the average, before anything is saved."""
        self.average.add(self.epoch)
        if self.epoch + 1 == self.max_epoch:
            print("Using GPA model for final inference...")
            self.average.load()
        super().after_epoch()

    def extra_state(self) -> dict[str, Any]:
        return {**super().extra_state(), "gpa": self.average.state}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        super().load_extra_state(state)
        if "gpa" in state:
            self.average.state = state["gpa"]
        else:
            print("Note: the checkpoint holds no average of the epochs so far; it starts from here")
