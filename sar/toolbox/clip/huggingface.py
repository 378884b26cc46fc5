"""CLIP and SigLIP folders of transformers, as open_clip's models.

Configuration and weights are put in open_clip's terms; image encoders of SigLIP are timm's, as
there. SigLIP 2 with pictures of any shape ("NaFlex") is run at the square grid of its positions.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sar.command_line.extras import extra
from sar.errors import ConfigError, WeightsError, one_line
from sar.storage.texts import read_json

from . import openai, openclip
from .backbone import Backbone
from .tokens import OPENAI, Foreign, OpenAI, Tokenizer

with extra("openclip"):
    import open_clip
    import timm
    from transformers import AutoConfig

ACTIVATIONS = {
    "quick_gelu": "QuickGELU",
    "gelu": "GELU",
    "gelu_pytorch_tanh": "GELU (tanh)",
    "gelu_new": "GELU (tanh)",
}


def described(folder: Path, read: Callable[[], dict[str, Tensor]]) -> Backbone:
    """The record of a folder that transformers saved.

    Args:
        read: gives the weights under the names of transformers.

    Raises:
        WeightsError: a damaged configuration. ConfigError: a model that is not known here.
    """
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder / 'config.json'} is no model's: {one_line(error)}") from error
    kinds = {"clip": _clip, "siglip": _siglip, "siglip2": _siglip}
    if config.model_type not in kinds:
        raise ConfigError(
            f"{folder} holds a {config.model_type}; of transformers, {', '.join(kinds)} are known"
        )
    vision, text = config.vision_config, config.text_config
    if vision.hidden_act != text.hidden_act or text.hidden_act not in ACTIVATIONS:
        raise ConfigError(
            f"{folder} has the activations {vision.hidden_act} and {text.hidden_act}; expected "
            f"one for images and texts, of {', '.join(ACTIVATIONS)}"
        )
    return kinds[config.model_type](folder, config, read)


def _clip(folder: Path, config: Any, read: Callable[[], dict[str, Tensor]]) -> Backbone:
    vision, text = config.vision_config, config.text_config
    cfg = {
        "embed_dim": config.projection_dim,
        "quick_gelu": text.hidden_act == "quick_gelu",
        "vision_cfg": {
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "head_width": vision.hidden_size // vision.num_attention_heads,
            **_layers(vision),
        },
        "text_cfg": {**_text(text), "pool_type": "argmax" if text.eos_token_id == 2 else "eos"},
    }
    if text.eos_token_id != 2:
        cfg["text_cfg"]["eos_id"] = text.eos_token_id
    tokenizer = _tokenizer(folder, text)

    def build() -> Any:
        state = _renamed(read(), _CLIP)
        for name in ("text.text_projection", "visual.proj"):
            if name in state:
                state[name] = state[name].T.contiguous()
        return openclip.build(cfg, state, str(folder), vision.image_size, tokenizer)

    return _record(folder, config, vision.image_size, tokenizer, build)


def _siglip(folder: Path, config: Any, read: Callable[[], dict[str, Tensor]]) -> Backbone:
    vision, text = config.vision_config, config.text_config
    patch = vision.patch_size
    any_shape = config.model_type == "siglip2"
    size = math.isqrt(vision.num_patches) * patch if any_shape else vision.image_size
    dimension = getattr(text, "projection_size", None) or text.hidden_size
    cfg = {
        "embed_dim": dimension,
        "vision_cfg": {"image_size": size, "layers": 1, "width": 64, "patch_size": size},
        "text_cfg": {
            **_text(text),
            "no_causal_mask": True,
            "pool_type": "last",
            "proj_bias": True,
        },
    }
    tokenizer = _tokenizer(folder, text)

    def make(cfg: dict[str, Any]) -> Any:
        model = open_clip.CustomTextCLIP(**cfg)
        visual: Any = nn.Module()
        visual.trunk = timm.create_model(
            "vit_base_patch16_siglip_224",
            img_size=size,
            patch_size=patch,
            embed_dim=vision.hidden_size,
            depth=vision.num_hidden_layers,
            num_heads=vision.num_attention_heads,
            mlp_ratio=_ratio(vision),
            act_layer=_gelu(vision.hidden_act),
            norm_layer=partial(nn.LayerNorm, eps=vision.layer_norm_eps),
            num_classes=0,
        )
        visual.head = nn.Identity()
        model.visual = visual
        return model

    def build() -> Any:
        state = _renamed(read(), _SIGLIP)
        stem = "visual.trunk.patch_embed.proj.weight"
        if any_shape and stem in state:  # of patches (rows, columns, colours) laid flat
            flat = state[stem].unflatten(1, (patch, patch, -1))
            state[stem] = flat.permute(0, 3, 1, 2).contiguous()
        return openclip.build(cfg, state, str(folder), size, tokenizer, make)

    return _record(folder, config, size, tokenizer, build, mean=(0.5,) * 3, std=(0.5,) * 3)


def _record(
    folder: Path, config: Any, size: int, tokenizer: Tokenizer, build: Any, **input: Any
) -> Backbone:
    heads = (config.vision_config.num_attention_heads, config.text_config.num_attention_heads)
    file = folder / "preprocessor_config.json"
    if os.path.lexists(file):
        said = read_json(file, "expected what transformers saves", WeightsError)
        for ours, theirs in (("mean", "image_mean"), ("std", "image_std")):
            if said.get(theirs) is not None:
                input[ours] = tuple(said[theirs])
    activation = ACTIVATIONS[config.text_config.hidden_act]
    return Backbone(size, build, tokenizer=tokenizer, activation=activation, heads=heads, **input)


def _layers(config: Any) -> dict[str, Any]:
    """Of a transformer's configuration, what images and texts have in common."""
    tanh = ACTIVATIONS[config.hidden_act] == "GELU (tanh)"
    return {
        "width": config.hidden_size,
        "layers": config.num_hidden_layers,
        "mlp_ratio": _ratio(config),
        "norm_kwargs": {"eps": config.layer_norm_eps},
        "act_kwargs": {"approximate": "tanh"} if tanh else None,
    }


def _text(config: Any) -> dict[str, Any]:
    return {
        "context_length": config.max_position_embeddings,
        "vocab_size": config.vocab_size,
        "heads": config.num_attention_heads,
        **_layers(config),
    }


def _ratio(config: Any) -> float:
    """From which int(width * ratio) gives the width inside the MLP."""
    return float((config.intermediate_size + 0.5) / config.hidden_size)


def _gelu(name: str) -> Callable[[], nn.Module]:
    return partial(nn.GELU, approximate="tanh") if "tanh" in ACTIVATIONS[name] else nn.GELU


def _tokenizer(folder: Path, text: Any) -> Tokenizer:
    length = text.max_position_embeddings
    if _is_openai(folder, text):
        return OPENAI if length == OPENAI.length else OpenAI(length)
    # SigLIP was trained on texts in lower case, without punctuation.
    clean = "canonicalize" if text.model_type.startswith("siglip") else "whitespace"
    load = partial(open_clip.tokenizer.HFTokenizer, clean=clean, padding_side="right")
    return Foreign(partial(load, str(folder), context_length=length), length)


def _is_openai(folder: Path, text: Any) -> bool:
    """Whether the vocabulary is that of OpenAI's CLIPs."""
    if (folder / "vocab.json").is_file():
        words = read_json(folder / "vocab.json", "", WeightsError)
    elif (folder / "tokenizer.json").is_file():
        words = read_json(folder / "tokenizer.json", "", WeightsError)["model"]["vocab"]
    else:
        return bool(text.vocab_size == len(openai.tokenizer.encoder))
    return bool(words == openai.tokenizer.encoder)


def _blocks(side: str) -> tuple[tuple[str, str], ...]:
    """Names inside open_clip's blocks, of the `text` or the `visual` side."""
    return (
        (rf"^({side}\..*)\.layer_norm(\d)\.", r"\1.ln_\2."),
        (rf"^({side}\..*)\.self_attn\.", r"\1.attn."),
        (rf"^({side}\..*)\.mlp\.fc1\.", r"\1.mlp.c_fc."),
        (rf"^({side}\..*)\.mlp\.fc2\.", r"\1.mlp.c_proj."),
    )


# Names of transformers -> open_clip's (with a text encoder of its own); q, k and v are joined.
_TEXT = (
    (r"^text_model\.embeddings\.token_embedding\.", "text.token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight", "text.positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "text.ln_final."),
    (r"^text_model\.encoder\.layers\.", "text.transformer.resblocks."),
    *_blocks("text"),
)
_CLIP = (
    *_TEXT,
    (r"^text_projection\.weight", "text.text_projection"),
    (r"^visual_projection\.weight", "visual.proj"),
    (r"^vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    *_blocks("visual"),
)
_SIGLIP = (
    *_TEXT,
    (r"^text_model\.head\.", "text.text_projection."),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.trunk.patch_embed.proj."),
    (r"^vision_model\.embeddings\.position_embedding\.weight", "visual.trunk.pos_embed"),
    (r"^vision_model\.post_layernorm\.", "visual.trunk.norm."),
    (r"^vision_model\.head\.probe", "visual.trunk.attn_pool.latent"),
    (r"^vision_model\.head\.attention\.out_proj\.", "visual.trunk.attn_pool.proj."),
    (r"^vision_model\.head\.attention\.in_proj_", "visual.trunk.attn_pool.in_proj_"),
    (r"^vision_model\.head\.layernorm\.", "visual.trunk.attn_pool.norm."),
    (r"^vision_model\.head\.", "visual.trunk.attn_pool."),
    (r"^vision_model\.encoder\.layers\.", "visual.trunk.blocks."),
    (r"^(visual\..*)\.layer_norm(\d)\.", r"\1.norm\2."),
    (r"^(visual\..*)\.self_attn\.out_proj\.", r"\1.attn.proj."),
    (r"^(visual\..*)\.self_attn\.", r"\1.attn."),
)
_UNUSED = ("position_ids", "logit_bias")


def _renamed(state: dict[str, Tensor], rules: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.endswith(_UNUSED):
            continue
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        found[name] = value
    return _joined(found)


def _joined(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Projections to queries, keys and values as one, under the names of each library."""
    for name in [name for name in state if re.search(r"attn\.q_proj\.", name)]:
        parts = [state.pop(name.replace(".q_proj.", f".{one}_proj.")) for one in "qkv"]
        start, kind = name.split("q_proj.")
        joined = f"{start}qkv.{kind}" if ".trunk." in name else f"{start}in_proj_{kind}"
        state[joined] = torch.cat(parts)
    for name in [name for name in state if "attn_pool.in_proj_" in name]:
        start, kind = name.split("in_proj_")
        value = state.pop(name)
        width = len(value) // 3
        state[f"{start}q.{kind}"], state[f"{start}kv.{kind}"] = value[:width], value[width:]
    return state
