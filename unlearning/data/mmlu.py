"""MMLU (arXiv 2009.03300): multiple-choice questions of many subjects."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from unlearning.data.examples import ExampleDataModule, ExampleSettings
from unlearning.data.jsonl import number_of, right_choice
from unlearning.data.overlap import normalise
from unlearning.data.records.cells import checked_text, list_of_texts
from unlearning.data.records.files import iterate_file
from unlearning.data.records.local import local_files
from unlearning.data.records.opening import kind_of, open_text
from unlearning.data.records.source import check_source, is_hub_id, iterate_records, require_columns
from unlearning.data.split import SPLITS, Split
from unlearning.data.stored_examples import take
from unlearning.errors import ConfigError
from unlearning.types import Example

COLUMNS = ("question", "choices", "answer")
LETTERS = "ABCD"
PLAIN = ("question", *LETTERS, "answer")
"""Columns of the authors' csv files, which have no header."""
_SPLIT = re.compile(r"(test|val|validation|dev|train)(?![a-z])")
_PART = re.compile(r"_(test|val|validation|dev|auxiliary_train)$")


class MMLUDataModule(ExampleDataModule):
    """Reads MMLU: one Example a question, whose choices are the letters A to D.

    The prompt is that of lm-evaluation-harness without examples: a line that names the subject, the
    question, and the choices behind their letters, without the spaces at their ends that it keeps;
    the template adds "Answer:". The examples of
    every split take turns by subject, so that any first n of them (`limit`) are of all subjects,
    the same number of each.

    Args:
        source: a folder of the authors' csv files (question, four choices, the answer as a letter
            or as a number from 0; no header), a subject each; one such file; records with the
            columns question, choices, answer and, where known, subject; or a hub id.
        subjects: which ones to take, as in the names of the files; None: all.
        records_split: of the hub, `test`, `validation` or `dev`.
        config_name: on the hub `all`, or one subject.
        revision: commit on the hub.
        settings: see `ExampleDataModule`; without `fractions` all questions are in one split.

    Raises:
        ConfigError: `subjects` names one that the source does not have.
    """

    def __init__(
        self,
        source: str = "cais/mmlu",
        subjects: Sequence[str] | None = None,
        records_split: str | None = "test",
        config_name: str | None = "all",
        revision: str | None = None,
        **settings: Unpack[ExampleSettings],
    ) -> None:
        settings.setdefault("fractions", (1.0, 0.0, 0.0))
        super().__init__(**settings)
        self.source, self.subjects = source, subjects
        self.records_split, self.config_name, self.revision = records_split, config_name, revision
        self._subject_of: dict[str, str] = {}

    def check(self) -> None:
        if is_hub_id(self.source):
            return
        files = local_files(self.source, self.records_split)
        if all(_is_plain(path) for path in files):
            for path in files:
                next(iterate_file(path, PLAIN))
        else:
            check_source(self.source, columns=COLUMNS, split=self.records_split)

    def read(self) -> Iterator[Example]:
        wanted = None if self.subjects is None else {_plain_name(each) for each in self.subjects}
        found: set[str] = set()
        for subject, row, where, record in self._records():
            found.add(subject)
            if wanted is None or subject in wanted:
                yield from self._example(subject, row, where, record)
        if wanted is not None and (unknown := sorted(wanted - found)):
            raise ConfigError(
                f"{self.source}: there is no subject {unknown[0]!r}; there are "
                f"{', '.join(sorted(found))}."
            )

    def _example(
        self, subject: str, row: int, where: str, record: Mapping[str, Any]
    ) -> Iterator[Example]:
        if "choices" in record:
            choices = list_of_texts(record["choices"], where)
        else:
            choices = tuple(checked_text(record[n], where, "choice", strip=False) for n in LETTERS)
        letters = tuple(LETTERS)
        if len(choices) != len(letters):
            raise ConfigError(f"{where}: {len(choices)} choices; expected {len(letters)}.")
        label = number_of(record["answer"], where)
        right = right_choice(letters, label, where)
        asked = checked_text(record["question"], where, "question")
        listed = [f"{a}. {text.strip()}" for a, text in zip(letters, choices, strict=True)]
        about = f" about {subject}" if subject else ""
        head = f"The following are multiple choice questions (with answers){about}."
        prompt = "\n".join([head, "", asked, *listed])
        for each in self.example(prompt, right, row=row, column="answer"):
            self._subject_of[normalise(each.prompt)] = subject
            yield Example(each.prompt, each.response, {"choices": letters}, label)

    def _records(self) -> Iterator[tuple[str, int, str, Mapping[str, Any]]]:
        """Yields subject, row, place and columns of every question."""
        if is_hub_id(self.source):
            records = iterate_records(
                self.source, columns=COLUMNS, split=self.records_split,
                config_name=self.config_name, revision=self.revision,
            )  # fmt: skip
            parts: Iterable[tuple[str, str, Iterable[Mapping[str, Any]]]] = [
                (self.source, str(self.config_name or ""), records)
            ]
        else:
            files = local_files(self.source, self.records_split)
            parts = [(str(path), _subject(path), _rows(path)) for path in files]
        for place, name, rows in parts:
            for row, record in enumerate(rows, start=1):
                where = f"{place}, row {row}"
                if "A" not in record:
                    require_columns(record, COLUMNS, where)
                subject = str(record.get("subject") or ("" if name == "all" else name))
                yield _plain_name(subject), row, where, record

    def split(self, examples: Sequence[Example]) -> Mapping[Split, Sequence[Example]]:
        found = super().split(examples)
        return {name: self._in_turns(found[name]) for name in SPLITS}

    def _in_turns(self, examples: Sequence[Example]) -> Sequence[Example]:
        """Returns the first question of every subject, then the second of each, and so on."""
        subjects = [self._subject_of[normalise(example.prompt)] for example in examples]
        seen: Counter[str] = Counter()
        turns = []
        for each in subjects:
            turns.append((seen[each], each))
            seen[each] += 1
        order = sorted(range(len(turns)), key=turns.__getitem__)
        return take(examples, np.array(order, dtype=np.int64))


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    return iterate_file(path, PLAIN if _is_plain(path) else None)


def _is_plain(path: Path) -> bool:
    """Whether a file is one of the authors' csv files: six fields and no header."""
    if kind_of(path) != ".csv":
        return False
    with open_text(path, newline="") as file:
        try:
            first = next(csv.reader(file), [])
        except csv.Error:  # which reading it will say
            first = []
    return not {"question", "answer"} <= {name.strip().casefold() for name in first}


def _subject(path: Path) -> str:
    name = path.name.split(".")[0]
    return "" if _SPLIT.match(name) else _PART.sub("", name)


def _plain_name(subject: str) -> str:
    return " ".join(subject.replace("_", " ").split())
