"""Checks every `_target_` of a configuration, and its arguments, before the first is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lightning import Callback
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from transformers import PreTrainedTokenizerBase

from unlearning.classifier import JigsawDataModule
from unlearning.data.examples import ExampleDataModule
from unlearning.data.pretraining import PretrainingDataModule
from unlearning.data.template import Template
from unlearning.metrics.metric import Metric
from unlearning.nested import walk
from unlearning.run.config.build import check_trainer
from unlearning.run.config.method import METHODS
from unlearning.run.config.targets import Kinds, check_target

CALLBACKS = ("guard", "harm", "bleu", "samples", "checkpoint")
"""Nodes of `callbacks` that hold settings."""


_OF_PROMPT_SETS: dict[str, type] = {"source": ExampleDataModule, "template": Template}


def check_targets(config: DictConfig) -> None:
    """Checks what stands behind each `_target_`; nothing is called.

    Raises:
        ConfigError: one is not of the kind that its key expects, or does not take its arguments.
    """
    check_nodes(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]


def check_nodes(plain: Mapping[str, Any]) -> None:
    """`check_targets` of a configuration as plain values."""
    for key, node, kinds in _nodes(plain):
        if isinstance(node, Mapping) and "_target_" in node:
            check_target(node, kinds, key)
    check_trainer(plain["trainer"])


def _nodes(config: Mapping[str, Any]) -> Iterator[tuple[str, Any, Kinds]]:
    """Yields every node that may have a `_target_`, with what it has to be."""
    evaluation, classifier = config["evaluation"], config["classifier"]
    for key, node in walk(config["data"], "data", lists=False):
        if key.count(".") == 1:
            yield key, node, Template if key == "data.template" else ExampleDataModule
    for key, node in walk(evaluation["prompt_sets"], "evaluation.prompt_sets"):
        yield key, node, _OF_PROMPT_SETS.get(key.rpartition(".")[2], Metric)
    for key, node in walk(evaluation.get("aggregates") or {}, "evaluation.aggregates"):
        yield key, node, Metric
    if isinstance(config["model"]["base"], Mapping):
        yield "model.base.data", config["model"]["base"]["data"], PretrainingDataModule
    if classifier["train"] is not None:
        yield "classifier.train.data", classifier["train"]["data"], JigsawDataModule
    if classifier["tiny"] is not None:
        tokenizer = classifier["tiny"]["tokenizer"]
        yield "classifier.tiny.tokenizer", tokenizer, PreTrainedTokenizerBase
    for key, node in walk(config["logger"], "logger", lists=False):
        if key.count(".") == 1:
            yield key, node, Logger
    if "method" in config:
        yield from _of_unlearning(config)


def _of_unlearning(config: Mapping[str, Any]) -> Iterator[tuple[str, Any, Kinds]]:
    method = config["method"]
    given = {name: value for name, value in method.items() if value is not None}
    yield "method", given, METHODS
    places = {"callbacks": config["callbacks"]}
    for key, tuning in (("finetune", config["finetune"]), ("method.tuning", method.get("tuning"))):
        places[f"{key}.callbacks"] = (tuning or {}).get("callbacks") or {}
    for key, nodes in places.items():
        for name, node in nodes.items():
            if name not in CALLBACKS:
                yield f"{key}.{name}", node, Callback
