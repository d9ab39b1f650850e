"""Cosine similarity of sentence embeddings.

An encoder with a mean or [CLS] pooling is loaded by transformers. One that needs more (a dense
layer, say) takes the package sentence-transformers, which is imported only then.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unlearning.errors import ConfigError
from unlearning.metrics.sentence_encoder import (
    SentenceEncoder,
    check_encoder,
    describe_encoder,
    local_folder,
)

PACKAGE = "sentence_transformers"
DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"


class Encoder(Protocol):
    """Protocol: texts to embeddings [n, D], as a SentenceTransformer's `encode`."""

    def __call__(self, texts: list[str], /) -> NDArray[np.floating]: ...


def load_encoder(model: str = DEFAULT_MODEL, device: str = "cpu", batch_size: int = 32) -> Encoder:
    """Loads a model of sentence embeddings.

    Args:
        model: hub id or local folder.

    Raises:
        ConfigError: there is no such model, it is no encoder, or it takes sentence-transformers,
            which is not installed.
    """
    found = describe_encoder(local_folder(model))
    if found.beyond:
        return _by_package(model, found.beyond, device, batch_size)
    return SentenceEncoder(found, device, batch_size)


def check_embedding(model: str) -> None:
    """Checks a model of sentence embeddings before any work; a hub is not asked.

    Raises:
        ConfigError: as `load_encoder`, for a folder.
    """
    found = check_encoder(model)
    if found is not None and found.beyond and find_spec(PACKAGE) is None:
        raise _no_package(model, found.beyond)


def _by_package(model: str, beyond: str, device: str, batch_size: int) -> Encoder:
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError as error:
        raise _no_package(model, beyond) from error
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


def _no_package(model: str, beyond: str) -> ConfigError:
    return ConfigError(
        f"{model}: {beyond}, which takes the package sentence-transformers, and that is not "
        "installed. Run: pip install 'unlearning[embedding]', or give an encoder with a mean or "
        "[CLS] pooling alone, such as sentence-transformers/all-MiniLM-L6-v2."
    )


class EmbeddingSimilarity:
    """Computes the cosine of each pair's embeddings, -1..1, as a `similarities` entry of `compare`.

    An answer without any character has no meaning to compare: 0, or 1 where both are empty. Each
    text is embedded once, since several metrics and models ask for the same ones.
    """

    unit = "cosine (-1..1)"

    def __init__(self, encode: Encoder) -> None:
        self.encode = encode
        self._known: dict[str, NDArray[np.float64]] = {}

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
        left = self._embedded([hypotheses[i] for i in filled])
        right = self._embedded([targets[i] for i in filled])
        scores[filled] = [float(a @ b) for a, b in zip(left, right, strict=True)]
        return scores

    def _embedded(self, texts: list[str]) -> list[NDArray[np.float64]]:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, _unit(self.encode(new)), strict=True))
        return [self._known[text] for text in texts]


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    doubles = np.asarray(vectors, dtype=np.float64)
    norms = np.linalg.norm(doubles, axis=1, keepdims=True)
    return doubles / np.where(norms == 0, 1, norms)
