"""Models of open_clip, with the attributes of OpenAI's `CLIP` by which they are used here."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sar.command_line.extras import extra
from sar.encoding import encode_tokens
from sar.errors import ConfigError, WeightsError

from .tokens import OPENAI, Foreign, OpenAI, Tokenizer
from .towers import ImageTower, OpenClipVision, TimmVision, WholeText

with extra("openclip"):
    import open_clip
    from open_clip.convert import convert_state_dict
    from open_clip.tokenizer import HFTokenizer
    from open_clip.transformer import LayerNormFp32, ResidualAttentionBlock, TextTransformer
    from timm.models.vision_transformer import VisionTransformer

# Where the text encoder is no part of its own.
_TEXT = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection")
# In files of some versions, and used by none of what is built here.
_UNUSED = ("input_resolution", "context_length", "vocab_size", "attn_mask", "text.attn_mask")
_UNUSED_PARTS = ("text_decoder.", "text.transformer.embeddings.position_ids", "logit_bias")


class OpenClip(nn.Module):
    """A CLIP with encoders of open_clip.

    A text encoder of CLIP's kind has its parts here under OpenAI's names. Any other is `whole`
    (`sar.encoding`), and a `transformer` is here only if its layers may take prompts.
    """

    def __init__(self, model: Any, resolution: int, tokenizer: Tokenizer) -> None:
        super().__init__()
        text = model.text
        words = getattr(text, "token_embedding", None) or text.transformer.get_input_embeddings()
        with torch.no_grad():
            own = words(torch.arange(len(words.weight)))
        table = tokenizer.table(own) if isinstance(tokenizer, Foreign) else own
        self.token_embedding = nn.Embedding.from_pretrained(table)
        self.tokenizer = tokenizer
        self.logit_scale = nn.Parameter(model.logit_scale.detach().reshape(()))
        if is_causal(text):
            self.transformer = text.transformer
            self.positional_embedding = text.positional_embedding
            self.ln_final = text.ln_final
            self.text_projection = text.text_projection
            for norm in [*self.transformer.modules(), self.ln_final]:
                if isinstance(norm, nn.LayerNorm):  # as OpenAI's, in fp32 whatever the precision
                    norm.__class__ = LayerNormFp32
        else:
            self.whole = WholeText(text, _told(text, tokenizer, len(own)), tokenizer.starts)
            if isinstance(text, TextTransformer):
                self.transformer = text.transformer
        with torch.no_grad():
            output_dim = self.encode_text(tokenizer(["a"])).shape[1]
        self.visual = _image_tower(model.visual, output_dim, resolution)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.visual.parameters()).dtype

    def encode_image(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> features (B, D), not normalized."""
        features: Tensor = self.visual(image.type(self.dtype))
        return features

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Ids (C, length), as `tokenizer` gives them -> features (C, D), not normalized."""
        return encode_tokens(self, self.token_embedding, tokens)


def build(
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    source: str,
    resolution: int,
    tokenizer: Tokenizer,
    make: Callable[[Any], Any] | None = None,
) -> OpenClip:
    """The model of an open_clip configuration (`model_cfg`) with the weights `state`.

    Draws random numbers. Raises WeightsError, naming their `source`, for weights that do not fit.
    """
    model = (make or _make)(copy.deepcopy(dict(config)))
    state = {
        f"text.{name}" if name.startswith(_TEXT) else name: value
        for name, value in convert_state_dict(model, dict(state)).items()
        if name not in _UNUSED and not name.startswith(_UNUSED_PARTS)
    }
    own = model.state_dict()
    wanted = {k for k in own if not k.startswith(_UNUSED_PARTS)}
    problems = [f"{name} is missing" for name in sorted(wanted - state.keys())]
    problems += [f"{name} has no place" for name in sorted(state.keys() - wanted)]
    for name in sorted(wanted & state.keys()):
        found, expected = tuple(state[name].shape), tuple(own[name].shape)
        if [side for side in found if side != 1] != [side for side in expected if side != 1]:
            problems.append(f"{name} is {found} and not {expected}")
    if problems:
        shown = "; ".join(problems[:3]) + (f"; {len(problems) - 3} more" if problems[3:] else "")
        raise WeightsError(
            f"{source} does not fit this architecture: {shown}. Name the one whose weights they are"
        )
    shaped = {name: value.float().reshape(own[name].shape) for name, value in state.items()}
    model.load_state_dict(shaped, strict=False)
    return OpenClip(model.eval(), resolution, tokenizer)


def _make(config: dict[str, Any]) -> Any:
    vision, text = config["vision_cfg"], config["text_cfg"]
    vision["patch_dropout"] = 0.0
    vision["timm_model_pretrained"] = text["hf_model_pretrained"] = False
    config.pop("custom_text", None)
    kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    try:
        return kind(**config)
    except (TypeError, ValueError, AssertionError, RuntimeError, OSError, KeyError) as error:
        raise ConfigError(
            f"open_clip {open_clip.__version__} does not build this architecture: {error}"
        ) from error


def is_causal(text: Any) -> bool:
    """Whether an open_clip text encoder is CLIP's: causal layers, and the feature at the EOT."""
    return (
        isinstance(text, TextTransformer)
        and text.attn_mask is not None
        and text.cls_emb is None
        and text.pool_type in ("argmax", "eos")
        and isinstance(text.text_projection, nn.Parameter)
        and all(
            type(block) is ResidualAttentionBlock
            and isinstance(block.ls_1, nn.Identity)
            and isinstance(block.ls_2, nn.Identity)
            for block in text.transformer.resblocks
        )
    )


def _told(text: Any, tokenizer: Tokenizer, vocabulary: int) -> tuple[int, int, int]:
    """`WholeText.words`: own ids of padding, of any word, and of the end of text."""
    if isinstance(tokenizer, Foreign):
        pad, end = tokenizer.pad, tokenizer.end
    else:
        pad, end = 0, vocabulary - 1
    if getattr(text, "pool_type", "") == "argmax" and end != vocabulary - 1:
        raise ConfigError(
            "its text encoder takes the feature from the highest token id, which is not the end "
            "of text with its tokenizer; such a CLIP cannot be used here"
        )
    return pad, next(i for i in (1, 2, 3) if i not in (pad, end)), end


def _image_tower(visual: Any, output_dim: int, resolution: int) -> ImageTower:
    if isinstance(visual, open_clip.transformer.VisionTransformer):
        return OpenClipVision(visual, output_dim, resolution)
    trunk = getattr(visual, "trunk", None)
    if type(trunk) is VisionTransformer:
        return TimmVision(trunk, visual.head, output_dim, resolution)
    return ImageTower(visual, output_dim, resolution)


def tokenizer_of(config: Mapping[str, Any], folder: str = "") -> Tokenizer:
    """The tokenizer of an open_clip configuration. `folder`: that has its files, if not the hub."""
    text = config["text_cfg"]
    length = text.get("context_length", OPENAI.length)
    options = dict(text.get("tokenizer_kwargs") or {})
    name = text.get("hf_tokenizer_name")
    if name:
        if text.get("tokenizer_mode"):
            raise ConfigError(f"the tokenizer mode {text['tokenizer_mode']!r} is not known here")
        return Foreign(
            lambda: HFTokenizer(folder or name, context_length=length, **options), length
        )
    if options:
        raise ConfigError(f"the tokenizer options {options} are not known here")
    return OPENAI if length == OPENAI.length else OpenAI(length)
