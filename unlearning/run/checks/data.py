"""Checks whether the data sets can be read, and trained on together."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from omegaconf import DictConfig

from unlearning.data.book import LOTRDataModule
from unlearning.data.bookcorpus import BookCorpusDataModule
from unlearning.data.examples import ExampleDataModule
from unlearning.data.ngrams import check_no_shared_text
from unlearning.data.overlap import check_disjoint
from unlearning.data.records.source import is_hub_id
from unlearning.data.retained import check_together as check_sets
from unlearning.data.split import SPLITS
from unlearning.data.stored_examples import store
from unlearning.errors import ConfigError
from unlearning.run.config.aggregates import aggregates
from unlearning.run.config.answers import answers_of, check_answers
from unlearning.run.config.build import Data, build_alternate, build_data
from unlearning.run.config.method import mismatch_per_prompt, objective_of
from unlearning.run.config.prompt_sets import check_metrics, prompt_sets
from unlearning.run.stages.utility import utility_examples
from unlearning.run.stages.watched import check_watched

SCANNED = 200_000
"""Windows of a streamed hub corpus that are searched for the book; local files are read whole."""


def check_data(config: DictConfig) -> tuple[list[str], Data]:
    """Checks the data sets: local sources are read and split; the hub is not asked.

    Returns:
        What was checked, a line each, and the data sets.

    Raises:
        ConfigError: for the first thing that is wrong.
    """
    data = build_data(config)
    retain = data["retain"]
    check_answers(config, streamed(retain), retain is None or retain.has_answers)
    found = describe_sources(data)
    if data["forget"] is None or data["retain"] is None:
        raise ConfigError("data.forget and data.retain are both needed.")
    alternate = build_alternate(config)
    if isinstance(alternate, ExampleDataModule):
        alternate.check()
    check_metrics(config)
    if not on_hub(data):
        check_together(config, data)
        sets = prompt_sets(config, data)
        aggregates(config, sets)
        check_watched(config, data, sets)
        utility_examples(config, data)
    return found, data


def describe_sources(data: Data) -> list[str]:
    """Reads local sources; returns a line for each data set.

    Raises:
        ConfigError: one cannot be read.
    """
    found = []
    for name, module in data.items():
        if module is None:
            continue
        module.check()
        source = module.source
        if source and is_hub_id(source):
            found.append(f"data.{name}: {source} from the hub, not looked up")
        else:
            found.append(f"data.{name}: {source or type(module).__name__}, {_sizes(module)}")
    return found


def on_hub(data: Data) -> bool:
    """Whether any data set has to be downloaded."""
    return any(m is not None and bool(m.source) and is_hub_id(m.source) for m in data.values())


def _sizes(module: ExampleDataModule) -> str:
    if streamed(module):
        return "streamed"
    return ", ".join(f"{len(module.examples(split))} {split}" for split in ("train", "test"))


def check_together(config: DictConfig, data: Data) -> None:
    """Checks whether the data sets can be trained on together; reads all of them.

    Raises:
        ConfigError: they overlap, or are too small.
    """
    forget, retain, related = data["forget"], data["retain"], data["related"]
    assert forget is not None and retain is not None
    _check_cached(config, retain)
    trained = {"forget": forget.examples("train")}
    if not streamed(retain):
        trained["retain"] = retain.examples("train")
        # The model's own answers are counted when they are there.
        of_data = answers_of(config, "mismatch") != "model"
        per_prompt = mismatch_per_prompt(config) * of_data
        check_sets(trained["forget"], trained["retain"], per_prompt)
    if related is not None:
        known = store(example for split in SPLITS for example in related.examples(split))
        for name, examples in trained.items():
            check_disjoint(known, examples, names=("related", name))
    if isinstance(forget, LOTRDataModule):
        book = (text for split in SPLITS for text in forget.texts(split))
        check_no_shared_text(book, _texts(retain), names=("book", "retain corpus"))


def _check_cached(config: DictConfig, retain: ExampleDataModule) -> None:
    """Of what passes by as a stream, no states are kept."""
    objective = objective_of(config)
    roles = set() if objective is None else objective.reference_roles
    if config.reference.mode == "cached" and streamed(retain) and "retain" in roles:
        raise ConfigError(
            "reference.mode=cached keeps the reference's states of the whole retain set, and "
            "data.retain is streamed. Set data.retain.streaming=false, or choose copy, or "
            "adapter_off with model.lora."
        )


def _texts(retain: ExampleDataModule) -> Iterable[str]:
    """Yields everything that may be retained, as text."""
    if isinstance(retain, BookCorpusDataModule):
        return islice(retain.texts(), SCANNED if is_hub_id(retain.source) else None)
    return (f"{e.conversation} {e.response}" for split in SPLITS for e in retain.examples(split))


def streamed(module: ExampleDataModule | None) -> bool:
    """Whether a data set is read as the training goes on."""
    return isinstance(module, BookCorpusDataModule) and module.streaming
