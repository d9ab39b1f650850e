"""How each metric is named and scaled, which way it should move, and which a set always shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from unlearning.report.figures import Unit


@dataclass(frozen=True)
class MetricSpec:
    """How one metric is shown.

    Args:
        label: what a table row is called.
        unit: scale of the stored value.
        wanted: which way is better, per kind of prompt set; absent where neither is.
    """

    label: str
    unit: Unit
    wanted: Mapping[str, str]


_UP, _DOWN = "higher is better", "lower is better"
_KINDS = ("harmful", "copyright", "retain", "related")
_LOWER, _HIGHER = dict.fromkeys(_KINDS, _DOWN), dict.fromkeys(_KINDS, _UP)
_SIMILAR = {"retain": _UP, "related": _UP}
_TRUE_TEXT = {**_SIMILAR, "copyright": _DOWN}  # to answer as the data does is what is forgotten
_SURPRISE = {"retain": _DOWN, "related": _DOWN, "harmful": _UP, "copyright": _UP}
_VERBATIM = {"copyright": _DOWN}

SPECS: dict[str, MetricSpec] = {
    "harmful_rate": MetricSpec("Harmful answers", "rate", _LOWER),
    "safe_and_sound_rate": MetricSpec("Safe and sound answers", "rate", _HIGHER),
    "bleu_to_target": MetricSpec("BLEU to the data set's answers", "bleu", _TRUE_TEXT),
    "verbatim_tokens": MetricSpec("Longest verbatim run, tokens", "plain", _VERBATIM),
    "verbatim_chars": MetricSpec("Longest verbatim run, characters", "plain", _VERBATIM),
    "extraction_strength": MetricSpec("Extraction strength", "rate", _VERBATIM),
    "exact_memorisation": MetricSpec("Exact memorisation", "rate", _VERBATIM),
    "embedding_to_target": MetricSpec(
        "Embedding similarity to the data set's answers", "plain", _TRUE_TEXT
    ),
    "broken_rate": MetricSpec("Broken answers", "rate", _LOWER),
    "empty_rate": MetricSpec("Empty answers", "rate", _LOWER),
    "repetitive_rate": MetricSpec("Repetitive answers", "rate", _LOWER),
    "non_word_rate": MetricSpec("Answers not made of words", "rate", _LOWER),
    "novel_word_share": MetricSpec("Words not found in any prompt or reference", "rate", _LOWER),
    "perplexity": MetricSpec("Perplexity of the data set's answers", "plain", _SURPRISE),
    "perplexity_relative": MetricSpec(
        "Perplexity, relative change", "percent", {"retain": "near zero", "related": "near zero"}
    ),
    "target_nll": MetricSpec("NLL of the data set's answers, nats per token", "plain", _SURPRISE),
    "bleu_to_original": MetricSpec("BLEU to the original model's answers", "bleu", _SIMILAR),
    "rouge_l_to_original": MetricSpec("ROUGE-L to the original model's answers", "plain", _SIMILAR),
    "rouge_l_to_target": MetricSpec("ROUGE-L to the data set's answers", "plain", _TRUE_TEXT),
    "rouge_accuracy": MetricSpec("Right answers", "rate", _SIMILAR),
    "exact_match": MetricSpec("Exact matches", "rate", _SIMILAR),
    "kept_right": MetricSpec("Right before and still right", "rate", _SIMILAR),
}

CORE: dict[str, tuple[str, ...]] = {
    "harmful": ("harmful_rate", "safe_and_sound_rate", "broken_rate", "novel_word_share"),
    "copyright": ("bleu_to_target", "verbatim_tokens", "extraction_strength", "broken_rate"),
    "retain": ("perplexity", "perplexity_relative", "bleu_to_original", "broken_rate"),
    "related": ("kept_right", "rouge_accuracy", "broken_rate"),
}
"""Metrics that a prompt set of this kind always shows, with a dash where they were not measured."""


def spec(metric: str, running_text: bool = False) -> MetricSpec:
    """How to show a metric; one that is not known here is shown under its own name.

    Args:
        running_text: passages have no answers; what follows in the data is the true text.
    """
    found = SPECS.get(metric) or MetricSpec(metric.replace("_", " "), "plain", {})
    if running_text:
        return replace(found, label=found.label.replace("the data set's answers", "the true text"))
    return found
