"""Reads a book from a file and cuts it into passages to forget."""

from unlearning.data.book.cleaning import CleaningRules
from unlearning.data.book.datamodule import LOTRDataModule
from unlearning.data.book.passages import PromptLength

__all__ = ["CleaningRules", "LOTRDataModule", "PromptLength"]
