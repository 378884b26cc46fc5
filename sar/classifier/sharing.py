"""Exported classifiers on the Hugging Face hub, through huggingface_hub's `ModelHubMixin`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sar.classifier import exported
from sar.command_line.extras import extra
from sar.errors import DataError, SARError, WeightsError, one_line

with extra("hub"):
    from huggingface_hub import ModelCard, ModelHubMixin, hf_hub_download


class Shared(ModelHubMixin, library_name="sarclip"):
    """A `Classifier` as the mixin wants it: saved as its `export` writes it."""

    def __init__(self, classifier: Any) -> None:
        self.classifier = classifier

    def _save_pretrained(self, save_directory: Path) -> None:
        inside = save_directory / "exported"
        self.classifier.export(inside)
        self._card = (inside / exported.CARD).read_text("utf-8")
        for name in (exported.CONFIG, exported.WEIGHTS):
            (inside / name).rename(save_directory / name)
        (inside / exported.CARD).unlink()
        inside.rmdir()

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        return ModelCard(self._card)

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, load: Any = None, clip: str = "", **options: Any
    ) -> Shared:
        known = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        given = {name: options[name] for name in known if name in options}
        files = [
            hf_hub_download(model_id, name, **given) for name in (exported.CONFIG, exported.WEIGHTS)
        ]
        return cls(load(Path(files[0]).parent, clip=clip))


def push(classifier: Any, name: str, **options: Any) -> str:
    """Write a classifier to the hub as `name`; where it is.

    Args:
        options: of huggingface_hub's `push_to_hub`: private, token, branch, commit_message, ...

    Raises:
        DataError: the hub refuses it, or cannot be reached.
    """
    try:
        return str(Shared(classifier).push_to_hub(name, **options))
    except SARError:
        raise
    except Exception as error:  # of the network, the hub or a token
        raise DataError(
            f"cannot write {name} to the hub: {one_line(error)}. Log in (hf auth login), check the "
            "name, or export to a folder and upload that"
        ) from error


def pull(load: Callable[..., Any], name: str, clip: str = "", **options: Any) -> Any:
    """The classifier of that name on the hub.

    Args:
        load: `Classifier.load`, which also says what `clip` is.
        options: of huggingface_hub's `from_pretrained`: revision, token, cache_dir, ...

    Raises:
        WeightsError: there is none, or it cannot be had; else as `load`.
    """
    try:
        return Shared.from_pretrained(name, load=load, clip=clip, **options).classifier
    except SARError:
        raise
    except Exception as error:  # of the network, the hub or a token
        raise WeightsError(
            f"cannot read {name} from the hub: {one_line(error)}. Check the name and the network"
        ) from error
