"""Optional: cosine similarity of sentence embeddings.

Needs the `sentence-transformers` package, which is imported only when a model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unlearning.errors import ConfigError

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"


class Encoder(Protocol):
    """Protocol: texts to embeddings [n, D], as a SentenceTransformer's `encode`."""

    def __call__(self, texts: list[str], /) -> NDArray[np.floating]: ...


def load_encoder(model: str = DEFAULT_MODEL, device: str = "cpu", batch_size: int = 32) -> Encoder:
    """Loads a sentence-transformers model, and returns its `encode`.

    Args:
        model: hub id or local folder.

    Raises:
        ConfigError: the package is missing, or there is no such model.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError as error:
        raise ConfigError(
            "embedding similarity needs the package sentence-transformers, which is not "
            "installed: run `pip install sentence-transformers`, or leave this metric out."
        ) from error
    try:
        loaded = SentenceTransformer(model, device=device, trust_remote_code=False)
    except OSError as error:
        raise ConfigError(
            f"cannot load the embedding model {model!r}; expected a hub id or a local folder "
            f"written by sentence-transformers: {error}"
        ) from error

    def encode(texts: list[str], /) -> NDArray[np.floating]:
        vectors = loaded.encode(
            texts, batch_size=batch_size, convert_to_numpy=True, show_progress_bar=False
        )
        return np.asarray(vectors, dtype=np.float64)

    return encode


class EmbeddingSimilarity:
    """Computes the cosine of each pair's embeddings, -1..1, as a `similarities` entry of `compare`.

    An answer without any character has no meaning to compare: 0, or 1 where both are empty.
    """

    def __init__(self, encode: Encoder) -> None:
        self.encode = encode

    def __call__(self, hypotheses: Sequence[str], targets: Sequence[str]) -> NDArray[np.float64]:
        if len(hypotheses) != len(targets):
            raise ConfigError(
                f"{len(hypotheses)} hypotheses for {len(targets)} targets; expected pairs."
            )
        scores = np.array(
            [
                float(not a.strip() and not b.strip())
                for a, b in zip(hypotheses, targets, strict=True)
            ]
        )
        pairs = zip(hypotheses, targets, strict=True)
        filled = [i for i, (a, b) in enumerate(pairs) if a.strip() and b.strip()]
        if filled:
            left = _unit(self.encode([hypotheses[i] for i in filled]))
            right = _unit(self.encode([targets[i] for i in filled]))
            scores[filled] = (left * right).sum(axis=1)
        return scores


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    doubles = np.asarray(vectors, dtype=np.float64)
    norms = np.linalg.norm(doubles, axis=1, keepdims=True)
    return doubles / np.where(norms == 0, 1, norms)
