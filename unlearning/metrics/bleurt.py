"""Optional: BLEURT (arXiv 2004.04696), a learned similarity of two texts.

A checkpoint that transformers can load as a sequence classifier with one output (the BERT-based
ones, for example Elron/bleurt-base-512) needs no further package. BLEURT-20 is RemBERT with a head
of its own and is not such a checkpoint. Scores are mostly within 0..1 but not bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unlearning.errors import ConfigError
from unlearning.loading import load_pretrained, load_tokenizer
from unlearning.weight_files import check_weight_files

DEFAULT_MODEL = "Elron/bleurt-base-512"


class Bleurt:
    """Computes the BLEURT of each pair, as a `similarities` entry of `compare`.

    Args:
        model: hub id or local folder.
        batch_size: pairs per forward.

    Raises:
        ConfigError: there is no such model, its files are damaged or lack weights, or it is no
            regression.
    """

    def __init__(
        self, model: str = DEFAULT_MODEL, device: str = "cpu", batch_size: int = 32
    ) -> None:
        self.tokenizer, self.model = _load(model)
        self.model.to(device).eval()
        self.device = device
        self.batch_size = batch_size

    @torch.no_grad()
    def __call__(self, hypotheses: Sequence[str], targets: Sequence[str]) -> NDArray[np.float64]:
        if len(hypotheses) != len(targets):
            raise ConfigError(
                f"{len(hypotheses)} hypotheses for {len(targets)} targets; expected pairs."
            )
        scores: list[float] = []
        for start in range(0, len(hypotheses), self.batch_size):
            part = slice(start, start + self.batch_size)
            tokens = self.tokenizer(
                list(targets[part]),
                list(hypotheses[part]),
                padding=True,
                truncation=True,
                max_length=self.model.config.max_position_embeddings,
                return_tensors="pt",
            ).to(self.device)
            scores += self.model(**tokens).logits[:, 0].double().tolist()
        return np.array(scores, dtype=np.float64)


def _load(model: str) -> tuple[Any, Any]:
    if Path(model).is_dir():
        check_weight_files(model)
    loaded = load_pretrained("AutoModelForSequenceClassification", model, "BLEURT model")
    tokenizer = load_tokenizer(model)
    if loaded.config.num_labels != 1:
        raise ConfigError(
            f"{model!r} has {loaded.config.num_labels} outputs; expected a BLEURT regression with "
            "one: a classifier is not a similarity."
        )
    return tokenizer, loaded
