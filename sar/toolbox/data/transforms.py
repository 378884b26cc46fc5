"""Image transforms by name, in Dassl's order and with its random draws."""

from collections.abc import Callable
from typing import Any

from torchvision import transforms as T
from torchvision.transforms.functional import InterpolationMode
from yacs.config import CfgNode

from sar.toolbox.clip import find_backbone

INTERPOLATION_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}
TRANSFORMS = (
    "random_crop",
    "random_resized_crop",
    "random_flip",
    "colorjitter",
    "randomgrayscale",
    "gaussian_blur",
    "normalize",
    "center_crop",  # always part of the test transform, accepted for old configurations
)


def image_input(cfg: CfgNode) -> CfgNode:
    """cfg.INPUT, with SIZE, PIXEL_MEAN and PIXEL_STD of the CLIP in use where it leaves them open.

    Raises ConfigError or WeightsError if the CLIP is not known.
    """
    spec: CfgNode = cfg.INPUT
    if spec.SIZE and spec.PIXEL_MEAN and spec.PIXEL_STD:
        return spec
    backbone = find_backbone(cfg.MODEL.BACKBONE.NAME)
    spec = spec.clone()
    spec.defrost()
    spec.SIZE = spec.SIZE or (backbone.resolution, backbone.resolution)
    spec.PIXEL_MEAN = spec.PIXEL_MEAN or list(backbone.mean)
    spec.PIXEL_STD = spec.PIXEL_STD or list(backbone.std)
    return spec


def build_transform(cfg: CfgNode, is_train: bool = True) -> Callable[[Any], Any]:
    """PIL image -> fp32 tensor (3, height, width) of the size `image_input` tells.

    Training: the transforms INPUT.TRANSFORMS names, in a fixed order. Test: the shorter side to
    max(SIZE), the centre cut out. Both end in [0, 1] or, with "normalize", normalized.
    """
    spec, names = image_input(cfg), cfg.INPUT.TRANSFORMS
    mode = INTERPOLATION_MODES[spec.INTERPOLATION]
    size = tuple(spec.SIZE)
    steps: list[Any]
    if not is_train:
        steps = [T.Resize(max(size), mode), T.CenterCrop(size)]
    else:
        cropped = "random_crop" in names or "random_resized_crop" in names
        steps = [] if cropped else [T.Resize(size, mode)]
        if "random_crop" in names:
            steps.append(T.RandomCrop(size, padding=spec.CROP_PADDING))
        if "random_resized_crop" in names:
            steps.append(
                T.RandomResizedCrop(size, scale=tuple(spec.RRCROP_SCALE), interpolation=mode)
            )
        if "random_flip" in names:
            steps.append(T.RandomHorizontalFlip())
        if "colorjitter" in names:
            jitter = (spec.COLORJITTER_B, spec.COLORJITTER_C)
            steps.append(T.ColorJitter(*jitter, spec.COLORJITTER_S, spec.COLORJITTER_H))
        if "randomgrayscale" in names:
            steps.append(T.RandomGrayscale(spec.RGS_P))
        if "gaussian_blur" in names:
            steps.append(T.RandomApply([T.GaussianBlur(spec.GB_K)], spec.GB_P))
    steps.append(T.ToTensor())
    if "normalize" in names:
        steps.append(T.Normalize(spec.PIXEL_MEAN, spec.PIXEL_STD))
    return T.Compose(steps)
