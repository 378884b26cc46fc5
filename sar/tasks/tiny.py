"""The embedded language model: two layers, trained on descriptions of drawings and on questions.

Its vocabulary is the pieces of CLIP's tokenizer that occur in these texts. It knows nothing else,
has never seen an image, and is for trying things out. `tools/pocket/language_model.py` trains it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sar.errors import WeightsError, one_line
from sar.storage.cache import key_of
from sar.tasks.language import TINY, LanguageModel
from sar.toolbox.clip.tokens import OPENAI

TINY_FILE = Path(__file__).with_name("tiny.safetensors")
WIDTH, LAYERS, HEADS, LENGTH = 128, 2, 4, 160
END, UNKNOWN, FIRST = 0, 1, 2  # ids: of the end, which is the start as well; of no piece; of pieces

_BLANKS = re.compile(r" +(?=[.,:;?!'])")  # CLIP's tokenizer leaves one behind each piece


class TinyModel(nn.Module):
    """A transformer of pre-norm layers, whose table of embeddings (V, d) gives the logits, too."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, WIDTH)
        self.positions = nn.Parameter(torch.zeros(LENGTH, WIDTH))
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(
            layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False
        )

    def forward(self, rows: Tensor, behind: int = 0) -> Tensor:
        """Embeddings (B, L, d) -> logits (B, L - behind, V)."""
        length = rows.shape[1]
        later = nn.Transformer.generate_square_subsequent_mask(length, device=rows.device)
        hidden = self.layers(rows + self.positions[:length], mask=later, is_causal=True)
        logits: Tensor = hidden[:, behind:] @ self.embedding.weight.t()
        return logits


class Vocabulary:
    """Ids of the pieces of CLIP's tokenizer that some texts have. `pieces`: its ids, in order."""

    def __init__(self, pieces: Sequence[int]) -> None:
        self.pieces = list(pieces)
        self._ids = {piece: FIRST + place for place, piece in enumerate(self.pieces)}

    def __len__(self) -> int:
        return FIRST + len(self.pieces)

    def encode(self, text: str) -> list[int]:
        return [self._ids.get(piece, UNKNOWN) for piece in OPENAI.encode(text)]

    def decode(self, ids: Sequence[int]) -> str:
        text = OPENAI.decode([self.pieces[i - FIRST] for i in ids if i >= FIRST])
        return _BLANKS.sub("", text).strip()


class Tiny(LanguageModel):
    """The model in a file of weights, by default the shipped one, on the CPU.

    Raises WeightsError for a file that is missing or holds something else.
    """

    name, width, length = TINY, WIDTH, LENGTH
    start, end, separator = END, END, (END,)
    device = torch.device("cpu")

    def __init__(self, file: Path = TINY_FILE) -> None:
        try:
            state = {name: value.float() for name, value in load_file(file).items()}
            self._vocabulary = Vocabulary(state.pop("pieces").int().tolist())
            with torch.random.fork_rng(devices=[]):
                self._model = TinyModel(len(self._vocabulary))
            self._model.load_state_dict(state)
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise WeightsError(
                f"{file} does not hold the tiny language model ({one_line(error)}); reinstall the "
                "package, or train it with tools/pocket/language_model.py"
            ) from error
        self._model.eval().requires_grad_(False)
        self.content = key_of({"embeddings": self._model.embedding.weight})

    def encode(self, text: str) -> list[int]:
        return self._vocabulary.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self._vocabulary.decode(ids)

    def embed(self, ids: Tensor) -> Tensor:
        embeddings: Tensor = self._model.embedding(ids)
        return embeddings

    def logits(self, rows: Tensor, behind: int = 0) -> Tensor:
        logits: Tensor = self._model(rows, behind)
        return logits
