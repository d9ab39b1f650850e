"""Translates the names in run folders of version 0.4 to today's.

Until 0.4 the gold text was called `reference`, which is the frozen model's name today.
"""

from __future__ import annotations

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
        found.setdefault("oracle", False)
    if isinstance(found.get("finetune"), Mapping):
        found["finetune"] = {"sets": {"forget": "train"}, **found["finetune"]}
    sweep = found.get("sweep")
    if isinstance(sweep, Mapping) and isinstance(sweep.get("objectives"), list):
        objectives = [current_metric(str(path)) for path in sweep["objectives"]]
        found["sweep"] = {**sweep, "objectives": objectives}
    return found


def _renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {_SETTINGS.get(name, name): value for name, value in settings.items()}
