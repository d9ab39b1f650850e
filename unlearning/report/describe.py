"""Describes from a configuration what was forgotten and how.

Only the few facts that a reader wants at the top of a page are looked up here; one that is not in
the configuration is shown as a dash. The whole of it is on the page as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearning.report.figures import DASH, number, section
from unlearning.report.tables import flat_rows, write_seconds


@dataclass(frozen=True)
class Term:
    """One term of the objective as configured."""

    name: str
    weight: str
    loss: str


@dataclass(frozen=True)
class Description:
    """The facts of a run at the head of its report and model card."""

    name: str
    title: str
    forgotten: str
    retained: str
    model: str
    adapter: str
    reference: str
    optimizer: str
    learning_rate: str
    batch_size: str
    terms: tuple[Term, ...]
    finetune: tuple[tuple[str, str], ...] = ()
    book: tuple[tuple[str, str], ...] = ()
    oracle: tuple[tuple[str, str], ...] = ()
    evaluated: tuple[str, ...] = ()

    @property
    def finetuned_with(self) -> str:
        """The method of fine-tuning, or "" where there was none."""
        return dict(self.finetune).get("method", "")


def describe(config: Mapping[str, Any], metrics: Mapping[str, Any] | None = None) -> Description:
    """Reads the facts from the groups `data`, `model`, `objective` and `unlearn`.

    Args:
        metrics: says which reference `auto` came to, and how the model was fine-tuned first.
    """
    metrics = metrics or {}
    data, model, unlearn = (section(config, group) for group in ("data", "model", "unlearn"))
    forgotten = _source(data.get("forget"))
    about = str(config.get("description") or "").strip().rstrip(".")
    evaluated = tuple(str(name) for name in section(metrics, "evaluated").values())
    if evaluated and not about:
        what = "Comparison" if len(evaluated) > 1 else "Evaluation"
        about = f"{what} of {' and '.join(evaluated)}"
    return Description(
        name=str(config.get("name") or ""),
        title=about or f"Forgetting {forgotten if forgotten != DASH else 'an unnamed forget set'}",
        forgotten=forgotten,
        retained=_source(data.get("retain")),
        model=", then ".join(evaluated) or _model(model),
        adapter=_adapter(model.get("lora")),
        reference=_reference(config, metrics),
        optimizer=_last(_text(unlearn.get("optimizer"))),
        learning_rate=_text(unlearn.get("learning_rate")),
        batch_size=_text(unlearn.get("batch_size")),
        terms=tuple(_terms(section(config, "objective"))),
        finetune=tuple(_facts(section(metrics, "finetune"))),
        book=tuple(_facts(section(metrics, "book"))),
        oracle=tuple(_facts(section(metrics, "oracle_model"))),
        evaluated=evaluated,
    )


def hub_id(config: Mapping[str, Any]) -> str | None:
    """Returns the starting model where its name can only be `owner/model` on a hub; None for a
    folder."""
    name = section(config, "model").get("name_or_path")
    if not isinstance(name, str) or Path(name).expanduser().exists():
        return None
    return name if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name, re.ASCII) else None


def _model(model: Mapping[str, Any]) -> str:
    if model.get("name_or_path") is None and isinstance(model.get("base"), Mapping):
        return "base model trained in this run"
    return _text(model.get("name_or_path"))


def _source(data: Any) -> str:
    """Describes where a data set comes from: its reader, and the file, hub id or part that it
    reads."""
    if not isinstance(data, Mapping):
        return _text(data)
    reader = _last(_text(data.get("_target_"))).removesuffix("DataModule")
    origin = next((str(data[key]) for key in ("source", "part") if data.get(key)), None)
    if origin is None:
        return reader
    return origin if reader == DASH else f"{reader} ({origin})"


def _adapter(lora: Any) -> str:
    if lora is None or lora is False:
        return "none, all weights trained"
    settings = lora if isinstance(lora, Mapping) else {}
    kind = "AdaLoRA" if settings.get("kind") == "adalora" else "LoRA"
    rank = settings.get("r")
    return kind if rank is None else f"{kind}, rank {rank}"


_REFERENCES = {
    "finetuned": "the fine-tuned model",
    "base": "the model before fine-tuning",
}


def _reference(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Describes which model the KL is to, where there are two to choose from, and how it is
    held."""
    configured = section(config, "reference").get("mode") or section(config, "unlearn").get(
        "reference"
    )
    how = _text(metrics.get("reference") or configured)
    of = metrics.get("reference_of")
    if of is None:
        return how
    model = _REFERENCES.get(str(of), str(of))
    return model if how == DASH else f"{model} ({how})"


def _facts(mapping: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Formats facts, with names in words and seconds as a duration."""
    for name, text in flat_rows(mapping):
        seconds = number(mapping[name]) if name == "seconds" else None
        if seconds is None:
            yield re.sub("[_.]", " ", name), text
        else:
            yield "time", write_seconds(seconds)


def _terms(objective: Mapping[str, Any]) -> Iterator[Term]:
    for name, term in objective.items():
        if isinstance(term, Mapping) and "weight" in term:
            options = ", ".join(f"{k} {v}" for k, v in section(term, "options").items())
            loss = _last(_text(term.get("loss"))) + (f" ({options})" if options else "")
            yield Term(str(name), _text(term["weight"]), loss)


def _last(path: str) -> str:
    """Returns the last part of an import path."""
    return path.rsplit(".", 1)[-1]


def _text(value: Any) -> str:
    return DASH if value is None or value == "" else str(value)
