"""Selects example answers for the page, with the answers of all models side by side.

Of a book only an excerpt is shown, and of a few passages: its text may be somebody's property, and
a report is made to be passed on.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unlearning.report.figures import figure, number, prompt_sets, section
from unlearning.report.stages import has_book

SHOWN, MORE = 5, 20
"""Examples per prompt set: shown at once, and behind a click. All are in generations.jsonl."""
EXCERPT = 300
"""Characters of a book's text, and of what continues it, that the page shows at most."""
_LONGEST = 4000


@dataclass(frozen=True)
class Answer:
    """One completion as the page shows it.

    Args:
        text: what can be shown; empty where there is nothing but white space.
        remark: what is shown instead or beside, for example `empty answer`.
        verbatim: the longest run that it shares with the true text in words, or "".
        harm: the classifier's probability in words, or "".
        harmful: whether it exceeds the threshold; None where that cannot be said.
        probability: the classifier's own number.
    """

    text: str
    remark: str
    harm: str = ""
    harmful: bool | None = None
    probability: float | None = None
    verbatim: str = ""


@dataclass(frozen=True)
class ExamplePair:
    """One prompt, the data set's own answer, and what the models said."""

    prompt: str
    target: str
    before: Answer | None
    after: Answer | None
    original: Answer | None = None
    others: Mapping[str, Answer] = field(default_factory=dict)

    def answer(self, model: str) -> Answer | None:
        """The answer of a model by its name."""
        known = {"original": self.original, "before": self.before, "after": self.after}
        return known[model] if model in known else self.others.get(model)


@dataclass(frozen=True)
class ExampleSet:
    """The examples of one prompt set; `hidden` where its text is shown on request only."""

    name: str
    kind: str
    hidden: bool
    total: int
    shown: list[ExamplePair]
    more: list[ExamplePair]


def example_sets(rows: list[dict[str, Any]], metrics: Mapping[str, Any]) -> list[ExampleSet]:
    """Returns the first prompts of every set, in order of their index: none is picked by its
    outcome."""
    kinds = prompt_sets(metrics)
    threshold = figure(section(metrics, "classifier").get("threshold")).value
    by_set: dict[str, dict[Any, dict[str, dict[str, Any]]]] = {name: {} for name in kinds}
    for row in rows:
        pairs = by_set.setdefault(str(row.get("prompt_set", "")), {})
        pairs.setdefault(row.get("index"), {})[str(row.get("stage"))] = row
    sets = []
    running_text = has_book(metrics)
    for name, pairs in by_set.items():
        if not pairs:
            continue
        order = sorted(pairs, key=lambda index: (number(index) is None, number(index) or 0.0))
        kind = kinds.get(name, "")
        book = kind == "copyright"
        reader, most = _Reader(threshold, running_text, book), SHOWN if book else SHOWN + MORE
        examples = [reader.pair(pairs[index]) for index in order[:most]]
        # What is not known to be harmless is treated as harmful.
        hidden = kind not in ("retain", "related")
        sets.append(ExampleSet(name, kind, hidden, len(pairs), examples[:SHOWN], examples[SHOWN:]))
    return sets


def visible(text: str, longest: int = _LONGEST) -> str:
    """Makes control characters visible, and cuts what would fill the page.

    Broken models emit control characters; some of them are not allowed in HTML at all, and the
    bidirectional ones could make the text read as something that the model did not say.
    """
    cut = f"… ({len(text) - longest:,} more characters)" if len(text) > longest else ""
    return "".join(map(_visible, text[:longest].replace("\r\n", "\n"))) + cut


def _visible(character: str) -> str:
    # The two joiners are part of the spelling in several scripts, and of emoji.
    if character in "\n\t\u200c\u200d":
        return character
    if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co"):
        return character
    if ord(character) < 0x20:
        return chr(0x2400 + ord(character))  # the control pictures block
    return f"[U+{ord(character):04X}]"


@dataclass(frozen=True)
class _Reader:
    """Converts rows of `generations.jsonl` to what the page shows.

    Args:
        threshold: from which harm probability on an answer is harmful.
        running_text: passages and their continuations, of which excerpts are shown.
        book: what is to be forgotten, word for word.
    """

    threshold: float | None
    running_text: bool
    book: bool

    def pair(self, stages: dict[str, dict[str, Any]]) -> ExamplePair:
        row = stages.get("after") or stages.get("before") or next(iter(stages.values()))
        original, before, after = (
            None if stage not in stages else self._answer(stages[stage])
            for stage in ("original", "before", "after")
        )
        others = {
            model: self._answer(found)
            for model, found in stages.items()
            if model not in ("original", "before", "after")
        }
        prompt = str(row.get("prompt") or "")
        if self.running_text and len(prompt) > EXCERPT:  # its end is what the answers follow
            prompt = f"({len(prompt) - EXCERPT:,} characters before) …{prompt[-EXCERPT:]}"
        target = self._visible(str(row.get("target") or ""))
        return ExamplePair(visible(prompt), target, before, after, original, others)

    def _visible(self, text: str) -> str:
        return visible(text, EXCERPT) if self.running_text else visible(text)

    def _answer(self, row: dict[str, Any]) -> Answer:
        completion = row.get("completion")
        text = completion if isinstance(completion, str) else ""
        remark = ""
        if not text and row.get("alternatives"):
            return Answer(self._visible(_likelihoods(row["alternatives"])), "")
        if not text:
            remark = "empty answer"
        elif not text.strip():
            remark, text = f"only white space, {len(text)} characters", ""
        elif row.get("finished") is False and not self.running_text:
            remark = "cut at the token limit"  # where a passage goes on, every continuation is
        probability = number(row.get("harm_probability"))
        run = number(row.get("verbatim_tokens")) if self.book else None
        verbatim = "" if run is None else f"verbatim run: {run:.0f} tokens"
        if probability is None:
            return Answer(self._visible(text), remark, verbatim=verbatim)
        # The paper counts an answer as harmful where a probability exceeds the threshold.
        harmful = None if self.threshold is None else probability > self.threshold
        word = {True: "judged harmful", False: "judged harmless", None: "harm"}[harmful]
        harm = f"{word}: {probability:.2f}"
        return Answer(self._visible(text), remark, harm, harmful, probability, verbatim)


def _likelihoods(alternatives: Mapping[str, Any]) -> str:
    """Shows the likelihoods of the alternatives, where a model was asked for those instead of an
    answer."""
    lines = []
    for name, scores in alternatives.items():
        for score in scores:
            nll, tokens = number(score.get("nll")), number(score.get("tokens"))
            mean = "" if nll is None or not tokens else f": {nll / tokens:.2f} nats per token"
            lines.append(f"{name}: {score.get('text', '')}{mean}")
    return "\n".join(lines)
