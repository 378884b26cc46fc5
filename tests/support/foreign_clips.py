"""Tiny CLIPs of open_clip and transformers, random, saved as those packages save them."""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

PIXELS = 32
LENGTH = 64  # positions of the SigLIPs' texts
WORDS = "a photo of the cat dog sea great pyrenees x basset hound beagle abyssinian bengal boxer"
CASES: dict[str, dict[str, Any]] = {
    "GELU": {},
    "QuickGELU": {"quick_gelu": True},
    "short texts": {"text_cfg": {"context_length": 32}},
    "layer scale": {"text_cfg": {"ls_init_value": 0.1}, "vision_cfg": {"ls_init_value": 0.1}},
    "not causal": {
        "vision_cfg": {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
        "text_cfg": {
            "no_causal_mask": True,
            "pool_type": "last",
            "proj_bias": True,
            "context_length": LENGTH,
        },
    },
    "not causal, with an end": {"text_cfg": {"no_causal_mask": True, "context_length": LENGTH}},
    "CoCa": {
        "custom_text": True,
        "vision_cfg": {"attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True},
        "text_cfg": {"embed_cls": True, "output_tokens": True, "context_length": 76},
        "multimodal_cfg": {"context_length": 76, "width": 48, "heads": 4, "layers": 1},
    },
    "ResNet": {"vision_cfg": {"layers": [1, 1, 1, 1], "width": 32, "patch_size": None}},
}


def configuration(**changes: Any) -> dict[str, Any]:
    """open_clip's `model_cfg` of a tiny model, whose heads are not 64 wide."""
    config: dict[str, Any] = {
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": PIXELS,
            "layers": 2,
            "width": 64,
            "head_width": 32,
            "patch_size": 16,
        },
        "text_cfg": {"width": 48, "heads": 4, "layers": 2},
    }
    for key, value in changes.items():
        config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
    return config


def open_clip_model(config: dict[str, Any]) -> Any:
    """open_clip's own model of a configuration, random."""
    config = json.loads(json.dumps(config))
    custom = config.pop("custom_text", False)
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    return randomized(open_clip.CoCa if "multimodal_cfg" in config else kind, **config)


def open_clip_folder(folder: Path, **changes: Any) -> Any:
    """open_clip's own model, saved into a folder as its hub has it."""
    config = configuration(**changes)
    model = open_clip_model(config)
    preprocess = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "interpolation": "bicubic"}
    said = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(said))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return model


def transformers_folder(folder: Path, kind: str, activation: str = "") -> tuple[Any, Any]:
    """A model of transformers, saved into a folder; and its tokenizer, but that of a "clip".

    kind: clip, siglip (T5's kind of vocabulary), siglip2 (Gemma's), or naflex.
    """
    common: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 4}
    common |= {"hidden_act": activation} if activation else {}
    image = {"hidden_size": 64, "intermediate_size": 180, "patch_size": 16, **common}
    text = {"hidden_size": 64, "intermediate_size": 100, **common}
    if kind == "clip":
        config = transformers.CLIPConfig(
            text_config={**text, "hidden_size": 48},
            vision_config={**image, "image_size": PIXELS},
            projection_dim=32,
        )
        model = randomized(transformers.CLIPModel, config)
        model.save_pretrained(folder)
        return model, None
    tokenizer = saved_tokenizer(folder, spaced=kind == "siglip")
    text |= {"vocab_size": len(tokenizer), "max_position_embeddings": LENGTH}
    text |= {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    size = {"num_patches": 4} if kind == "naflex" else {"image_size": PIXELS}
    prefix = "Siglip2" if kind == "naflex" else "Siglip"
    config = getattr(transformers, f"{prefix}Config")(
        text_config=text, vision_config={**image, **size}
    )
    model = randomized(getattr(transformers, f"{prefix}Model"), config)
    model.save_pretrained(folder)
    return model, tokenizer


def saved_tokenizer(folder: Path, spaced: bool) -> Any:
    """A tokenizer without start token. `spaced`: its first word is as those behind it; T5's."""
    scheme = "always" if spaced else "never"
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    trainer = trainers.BpeTrainer(
        vocab_size=200, special_tokens=["<pad>", "</s>", "<unk>"], show_progress=False
    )
    tokenizer.train_from_iterator([WORDS, *WORDS.split(), "abcdefghijklmnopqrstuvwxyz"], trainer)
    ending = ("</s>", 1)
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[ending])
    saved = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="</s>" if spaced else "<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="right",
    )
    saved.save_pretrained(folder)
    return saved


def randomized(kind: Any, *given: Any, **options: Any) -> Any:
    """A model in which also biases and norms are random."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = kind(*given, **options).eval()
        for parameter in model.parameters():
            parameter.nan_to_num_(posinf=0, neginf=0)  # some are memory as it was found
            if parameter.dim() == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    return model
