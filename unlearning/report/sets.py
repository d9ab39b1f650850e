"""Facts of a run's prompt sets: kind, split, and the directions of their metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unlearning import names_0_4
from unlearning.report.figures import prompt_sets, section

UNSEEN = ("validation", "test")
"""Splits that nothing is trained on."""


def set_facts(metrics: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Returns what `metrics.json` says of one prompt set."""
    found = section(metrics, "prompt_sets").get(name)
    if isinstance(found, Mapping):
        return found
    return names_0_4.prompt_set(name, str(found or ""))


def split_of(metrics: Mapping[str, Any], name: str) -> str:
    """Returns the split of its data set that a prompt set is from; "" where it is not known."""
    return str(set_facts(metrics, name).get("split") or "")


def is_held_out(metrics: Mapping[str, Any], name: str) -> bool:
    """Whether nothing was trained on its prompts."""
    return split_of(metrics, name) in UNSEEN


def of_kind(metrics: Mapping[str, Any], kind: str) -> list[str]:
    """Returns the names of the sets of one kind, in the file's order."""
    return [name for name, its_kind in prompt_sets(metrics).items() if its_kind == kind]


def held_out(metrics: Mapping[str, Any], kind: str) -> list[str]:
    """Returns the sets of unseen prompts; without any, those that were not trained on."""
    names = of_kind(metrics, kind)
    unseen = [name for name in names if is_held_out(metrics, name)]
    return unseen or [name for name in names if split_of(metrics, name) != "train"]


def finetuned(metrics: Mapping[str, Any], kind: str) -> list[str]:
    """Returns the sets of passages that the model was fine-tuned on: all but the held-out ones."""
    return [name for name in of_kind(metrics, kind) if not is_held_out(metrics, name)]
