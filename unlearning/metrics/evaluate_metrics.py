"""Text metrics as `evaluate.Metric` classes, for code that uses that library.

`evaluate.load("bleu")` fetches a script from a hub at run time; these need none. They combine:

    evaluate.combine([Bleu(), RougeL(), Verbatim()]).compute(predictions=..., references=...)

One reference a prediction, both plain strings. In one process texts are kept in memory rather than
in files under locks; `keep_in_memory=False` is for more text than fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import evaluate
import numpy as np
from datasets import Features, Value

from unlearning.errors import ConfigError
from unlearning.metrics.memorisation import verbatim_chars, verbatim_words
from unlearning.metrics.similarity import bleu_signature, corpus_bleu, rouge_l_each

INPUTS = """
Args:
    predictions: texts, for example completions.
    references: one true text for each.
"""


class _TextMetric(evaluate.Metric):
    """Base of metrics of texts with one reference text each."""

    def __init__(self, **settings: Any) -> None:
        in_memory = settings.get("num_process", 1) == 1
        super().__init__(**{"keep_in_memory": in_memory, **settings})

    def _finalize(self) -> None:
        if self.keep_in_memory and self.writer is None:  # the library fails on a None of its own
            raise ConfigError(
                f"{type(self).__name__} was given no text to score; give predictions and "
                "references to compute(), or add them before."
            )
        super()._finalize()

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__ or "",
            citation="",
            inputs_description=INPUTS,
            features=Features({"predictions": Value("string"), "references": Value("string")}),
        )


class Bleu(_TextMetric):
    """`bleu`: corpus BLEU by sacrebleu, 0..100; `bleu_signature`: the settings it was made with."""

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        bleu = corpus_bleu(list(predictions), list(references))
        return {"bleu": bleu, "bleu_signature": bleu_signature()}


class RougeL(_TextMetric):
    """`rouge_l`: mean F1 of the longest common subsequence of words, 0..1."""

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        return {"rouge_l": _mean(rouge_l_each(list(predictions), list(references)))}


class Verbatim(_TextMetric):
    """`verbatim_chars`, `verbatim_words`: mean length of the longest passage both texts share."""

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        counts = {"verbatim_chars": verbatim_chars, "verbatim_words": verbatim_words}
        pairs = list(zip(predictions, references, strict=True))
        return {
            name: _mean([count(said, true) for said, true in pairs])
            for name, count in counts.items()
        }


def _mean(scores: Sequence[float] | np.ndarray[Any, Any]) -> float:
    return float(np.mean(scores)) if len(scores) else float("nan")
