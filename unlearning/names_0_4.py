"""Translates run folders of version 0.4 to today's names and declarations.

Until 0.4 the gold text was called `reference`, which is the frozen model's name today; metrics were
declared in the report, and the split of a prompt set was told by its name. Until 0.5 everything
followed the one `seed` of the run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_FIELDS = {
    "reference": "target",
    "reference_nll": "target_nll",
    "reference_tokens": "target_tokens",
    "reference_matches": "target_matches",
    "reference_suffix": "target_suffix",
}
_METRICS = {"reference_nll": "target_nll", "right_rate": "rouge_accuracy"}
_SETTINGS = {"right_threshold": "rouge_threshold"}
_BOOK = {"teach": "finetune_on"}
_SUFFIX, _NEW_SUFFIX = "_to_reference", "_to_target"
_BY_SET = ("original", "before", "after", "change", "change_from_original")
_BY_METRIC = ("units", "signatures")


def current_generation(row: Mapping[str, Any]) -> dict[str, Any]:
    """Translates a line of `generations.jsonl`."""
    return {_FIELDS.get(name, name): value for name, value in row.items()}


def current_metric(name: str) -> str:
    """Translates the name of a metric, alone or at the end of a path
    (`after.book/bleu_to_reference`)."""
    if name.startswith("effectiveness."):
        prompt_set, dot, rest = name.removeprefix("effectiveness.").partition(".")
        return f"after.{prompt_set}/effectiveness{dot}{rest}"
    path, slash, metric = name.rpartition("/")
    metric, dot, rest = metric.partition(".") if slash else (metric, "", "")
    if metric.endswith(_SUFFIX):
        metric = metric.removesuffix(_SUFFIX) + _NEW_SUFFIX
    return path + slash + _METRICS.get(metric, metric) + dot + rest


def current_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Translates the contents of `metrics.json`."""
    found = dict(metrics)
    for part in (*_BY_SET, *_BY_METRIC):
        if isinstance(found.get(part), Mapping):
            found[part] = {current_metric(name): value for name, value in found[part].items()}
    if isinstance(found.get("settings"), Mapping):
        found["settings"] = _renamed(found["settings"])
    removed = found.pop("effectiveness", None)
    if isinstance(removed, Mapping):
        moved = {f"{name}/effectiveness": value for name, value in removed.items()}
        found["after"] = {**(found.get("after") or {}), **moved}
    return found


def current_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Translates the contents of `config.yaml`."""
    found = dict(config)
    if "objective" in found and "method" not in found:  # `objective=` was the only choice
        found["method"] = {"_target_": "unlearning.UnlearningModule", "trained": None, "rule": None}
    if isinstance(found.get("evaluation"), Mapping):
        found["evaluation"] = _renamed(found["evaluation"])
    data = found.get("data")
    if isinstance(data, Mapping) and isinstance(data.get("forget"), Mapping):
        book = {_BOOK.get(name, name): value for name, value in data["forget"].items()}
        found["data"] = {**data, "forget": book}
    if "finetune" in found:
        found = {"task": "unlearn", "compare_with": None, "oracle": False, **found}
    if isinstance(found.get("finetune"), Mapping):
        found["finetune"] = {"sets": {"forget": "train"}, **found["finetune"]}
    sweep = found.get("sweep")
    if isinstance(sweep, Mapping) and isinstance(sweep.get("objectives"), list):
        objectives = [current_metric(str(path)) for path in sweep["objectives"]]
        found["sweep"] = {**sweep, "objectives": objectives}
    return _with_own_seeds(found)


def _with_own_seeds(config: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the seeds of the data, the classifier and earlier trainings, which until 0.5 were the
    run's."""
    found, seed = dict(config), config.get("seed")
    if seed is None:
        return found
    for name in ("data", "classifier", "finetune"):
        if isinstance(found.get(name), Mapping):
            found[name] = {"seed": seed, **found[name]}
    model = found.get("model")
    if isinstance(model, Mapping) and isinstance(model.get("base"), Mapping):
        found["model"] = {**model, "base": {"seed": seed, **model["base"]}}
    return found


def _renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {_SETTINGS.get(name, name): value for name, value in settings.items()}


def declared(metric: str) -> tuple[str, str]:
    """Label and unit of a metric; one that is not known is shown under its own name."""
    return DECLARED.get(metric, (metric.replace("_", " "), ""))


def prompt_set(name: str, kind: str) -> dict[str, Any]:
    """What is written down of a prompt set today, from its name and kind."""
    better = {m: d for d, metrics in _BETTER.get(kind, {}).items() for m in metrics.split()}
    front = _FRONT.get(kind, "").split()
    return {"kind": kind, "split": _split(name), "front": front, "directions": better}


def _split(name: str) -> str:
    """As far as the name says it, in one word or two."""
    words = set(re.split(r"[\W_]+", name.lower()))
    if "heldout" in re.sub(r"[\W_]", "", name.lower()) or words & {"unseen", "untaught", "test"}:
        return "test"
    if "validation" in words:
        return "validation"
    return "train" if words & {"seen", "train", "training", "trained"} else ""


DECLARED = {
    "effectiveness": ("Effectiveness E", "percent"),
    "harmful_rate": ("Harmful answers", "fraction"),
    "safe_and_sound_rate": ("Safe and sound answers", "fraction"),
    "bleu_to_target": ("BLEU to the data set's answers", "BLEU"),
    "verbatim_tokens": ("Longest verbatim run, tokens", ""),
    "verbatim_chars": ("Longest verbatim run, characters", ""),
    "extraction_strength": ("Extraction strength", "fraction"),
    "exact_memorisation": ("Exact memorisation", "fraction"),
    "embedding_to_target": ("Embedding similarity to the data set's answers", ""),
    "broken_rate": ("Broken answers", "fraction"),
    "empty_rate": ("Empty answers", "fraction"),
    "repetitive_rate": ("Repetitive answers", "fraction"),
    "non_word_rate": ("Answers not made of words", "fraction"),
    "novel_word_share": ("Words not found in any prompt or target", "fraction"),
    "perplexity": ("Perplexity of the data set's answers", ""),
    "perplexity_relative": ("Perplexity, relative change", "percent"),
    "target_nll": ("NLL of the data set's answers, nats per token", ""),
    "bleu_to_original": ("BLEU to the original model's answers", "BLEU"),
    "rouge_l_to_original": ("ROUGE-L to the original model's answers", ""),
    "rouge_l_to_target": ("ROUGE-L to the data set's answers", ""),
    "rouge_accuracy": ("Right answers", "fraction"),
    "exact_match": ("Exact matches", "fraction"),
    "kept_right": ("Right before and still right", "fraction"),
}
"""Label and unit by name, in the order of tables."""
_SOUND = "harmful_rate broken_rate empty_rate repetitive_rate non_word_rate novel_word_share"
_NLL, _TRUE = "perplexity target_nll", "bleu_to_target rouge_l_to_target embedding_to_target"
_KEPT = (
    f"safe_and_sound_rate {_TRUE} bleu_to_original rouge_l_to_original rouge_accuracy exact_match "
    "kept_right"
)
_VERBATIM = "verbatim_tokens verbatim_chars extraction_strength exact_memorisation"
_BETTER = {
    "harmful": {"lower": _SOUND, "higher": f"safe_and_sound_rate effectiveness {_NLL}"},
    "copyright": {
        "lower": f"{_SOUND} {_TRUE} {_VERBATIM}", "higher": f"safe_and_sound_rate {_NLL}",
    },
    "retain": {
        "lower": f"{_SOUND} {_NLL}", "higher": _KEPT, "near zero": "perplexity_relative",
    },
    "related": {
        "lower": f"{_SOUND} {_NLL}", "higher": _KEPT, "near zero": "perplexity_relative",
    },
}  # fmt: skip
_FRONT = {
    "harmful": "effectiveness harmful_rate safe_and_sound_rate broken_rate novel_word_share",
    "copyright": "bleu_to_target verbatim_tokens extraction_strength broken_rate",
    "retain": "perplexity perplexity_relative bleu_to_original broken_rate",
    "related": "kept_right rouge_accuracy broken_rate",
}
