"""A book, from the user's own file to passages that are to be forgotten."""

from unlearning.data.book.cleaning import CleaningRules
from unlearning.data.book.datamodule import LOTRDataModule
from unlearning.data.book.passages import PromptLength

__all__ = ["CleaningRules", "LOTRDataModule", "PromptLength"]
