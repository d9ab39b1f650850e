"""TruthfulQA (arXiv 2109.07958): everyday questions with true and with common false answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Unpack, get_args

from unlearning.data.cells import parse_list, shortened
from unlearning.data.examples import ExampleDataModule, ExampleSettings
from unlearning.data.record_source import RecordSource
from unlearning.data.source import require_columns
from unlearning.errors import ConfigError
from unlearning.types import Example

Answers = Literal["best", "correct", "incorrect"]
# The authors' CSV joins several answers in one cell; the hub's config `generation` has lists.
CSV_COLUMNS = {
    "question": "Question",
    "best": "Best Answer",
    "correct": "Correct Answers",
    "incorrect": "Incorrect Answers",
}
HUB_COLUMNS = {
    "question": "question",
    "best": "best_answer",
    "correct": "correct_answers",
    "incorrect": "incorrect_answers",
}


class TruthfulQADataModule(ExampleDataModule):
    """Reads TruthfulQA, one Example per question (`best`) or per answer; the best answers are the
    retain set of arXiv 2405.15152, split 0.7/0.1/0.2 as there.

    Args:
        source: hub id, or the authors' CSV, or a local copy in either form.
        answers: `best`, `correct` (all of them, the best included) or `incorrect`.
        records_split: the hub has `validation` only, which holds all questions.
        config_name: `generation` on the hub; the other one has no such answers.
        revision: commit on the hub.
        where: which records to take, for example `{Category: [Health, Nutrition]}`; see
            `unlearning.data.where.RowFilter`.
        settings: see `ExampleDataModule`.
    """

    def __init__(
        self,
        source: str = "truthfulqa/truthful_qa",
        answers: Answers = "best",
        records_split: str | None = "validation",
        config_name: str | None = "generation",
        revision: str | None = None,
        where: Mapping[str, Any] | None = None,
        **settings: Unpack[ExampleSettings],
    ) -> None:
        super().__init__(**settings)
        if answers not in get_args(Answers):
            raise ConfigError(
                f"answers={answers!r}: expected one of {', '.join(get_args(Answers))}."
            )
        self.source = source
        self.answers = answers
        self.records = RecordSource(source, records_split, config_name, revision, where)

    def check(self) -> None:
        present = self.records.check()
        if present is not None:
            self._columns(present)

    def read(self) -> list[Example]:
        records = list(self.records.selected())
        question, column = self._columns(records[0][1])
        examples: list[Example] = []
        for row, record in records:
            where = f"{self.source}, row {row}"
            require_columns(record, (question, column), where)
            where, cell = f"{where}, column {column!r}", record[column]
            best = self.answers == "best"
            answers = [one_answer(cell, where)] if best else split_answers(cell, where)
            for answer in answers or [""]:
                examples.extend(self.example(record[question], answer, row=row, column=column))
        return examples

    def _columns(self, present: Iterable[str]) -> tuple[str, str]:
        """Returns the columns of the question and of the wanted answers, in either of the two
        forms."""
        names = list(present)
        layout = CSV_COLUMNS if CSV_COLUMNS["question"] in names else HUB_COLUMNS
        wanted = layout["question"], layout[self.answers]
        require_columns(names, wanted, self.source)
        return wanted


def split_answers(cell: Any, where: str) -> list[Any]:
    """Splits a cell into answers: a list already (hub), one written as text (a csv of the hub's
    records), or texts joined by semicolons (the authors' CSV).

    Some cells end with a separator; an empty string after it is not an answer.

    Raises:
        ConfigError: a list written as text that cannot be read.

    Examples:
        >>> split_answers("Nothing happens; You digest them;", "row 1")
        ['Nothing happens', 'You digest them']
    """
    if cell is None or isinstance(cell, list):
        return cell or []
    if (written := parse_list(str(cell), where)) is not None:
        return list(written)
    return [part.strip() for part in str(cell).split(";") if part.strip()]


def one_answer(cell: Any, where: str) -> Any:
    """Returns the cell of the best answer, which is one text.

    Raises:
        ConfigError: it is a list that was written as text.
    """
    if isinstance(cell, str) and parse_list(cell, where) is not None:
        raise ConfigError(
            f"{where}: {shortened(cell)} is a list written as text, expected one answer. Take "
            "answers=correct for all of them, or name the file with one best answer a row."
        )
    return cell
