"""Reads a large corpus of plain text in parts, as streams.

A part is a local file or a shard of a hub data set. Which text a part holds never changes, so that
a place in the corpus can be found again; memory does not grow with the corpus.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unlearning.data.records.cells import checked_text
from unlearning.data.records.encoding import file_digest
from unlearning.data.records.files import parquet_records
from unlearning.data.records.json_file import json_records
from unlearning.data.records.local import files_of_one_kind
from unlearning.data.records.opening import existing_path, kind_of, open_text
from unlearning.data.records.saved import is_saved, saved_files, saved_folders, saved_records
from unlearning.data.records.source import is_hub_id, require_columns
from unlearning.data.records.where import RowFilter
from unlearning.errors import ConfigError

KINDS = (".txt", ".jsonl", ".parquet")
ROWS = 1000

# The hub's own data set is a script, which `datasets` 4 no longer runs; this is its converted form.
REVISIONS = {"bookcorpus/bookcorpus": "refs/convert/parquet"}


class Corpus:
    """Streams the lines of text files, or the rows of tables, a part at a time.

    Args:
        source: a hub id, or a .txt, .jsonl or .parquet file (the first two also .gz, .xz or .zst),
            or a folder of files of one such kind (those in folders below it too), in the order of
            their paths; or a folder made by `save_to_disk`.
        text_column: of the rows; lines of .txt files need none.
        records_split: which split of a hub data set, or of a saved DatasetDict.
        config_name: the hub data set's configuration.
        revision: branch, tag or commit on the hub.
        where: which rows to take; see `RowFilter`. Lines of .txt files have no columns.

    Raises:
        ConfigError: from every method, for what cannot be read.
    """

    def __init__(
        self,
        source: str,
        text_column: str = "text",
        records_split: str = "train",
        config_name: str | None = None,
        revision: str | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> None:
        self.source, self.text_column = source, text_column
        self.where, self.rows = where, RowFilter(where, source)
        self.records_split, self.config_name = records_split, config_name
        self.revision = revision if revision is not None else REVISIONS.get(source)
        self.on_hub = is_hub_id(source) and kind_of(source) not in KINDS
        self._files: list[Path] | None = None
        self._dataset: Any = None
        self._digests: dict[Path, str] = {}

    @property
    def plain_lines(self) -> bool:
        """Whether a record is a line of a text file, rather than a row of a table."""
        return not self.on_hub and kind_of(self.files[0]) == ".txt"

    @property
    def files(self) -> list[Path]:
        """Returns the parts of a local corpus: files, or folders of saved data sets."""
        if self._files is None:
            self._files = corpus_files(self.source, self.records_split)
        return self._files

    @property
    def names(self) -> list[str]:
        """Returns a name for each part, independent of where its folder lies."""
        if self.on_hub:
            return [str(number) for number in range(self._load().num_shards)]
        root = Path(self.source).expanduser()
        return [f.relative_to(root).as_posix() if f != root else f.name for f in self.files]

    def records(self, part: int) -> Iterator[str]:
        """Yields the texts of one part. The encoding of local files is checked before."""
        where = f"{self.source}, part {part}" if self.on_hub else str(self.files[part])
        if self.plain_lines:
            if self.where:
                raise ConfigError(
                    f"{where}: where={self.where}, but lines of text have no columns."
                )
            yield from self._lines(self.files[part])
            return
        for row, record in enumerate(self._rows(part, where), start=1):
            place = f"{where}, row {row}"
            require_columns(record, (self.text_column, *self.rows.columns), place)
            if self.rows.takes(record, place):
                yield checked_text(
                    record[self.text_column], f"{place}, column {self.text_column!r}", "text",
                    strip=False,
                )  # fmt: skip

    def _lines(self, path: Path) -> Iterator[str]:
        self._digest(path)
        with open_text(path, newline=None) as file:
            for line in file:
                yield line.removesuffix("\n")

    def _rows(self, part: int, where: str) -> Iterator[dict[str, Any]]:
        if not self.on_hub:
            path = self.files[part]
            self._digest(path)
            if path.is_dir():
                return saved_records(path)
            return parquet_records(path) if kind_of(path) == ".parquet" else json_records(path)
        return self._hub_rows(part, where)

    def _hub_rows(self, part: int, where: str) -> Iterator[dict[str, Any]]:
        dataset = self._load()
        # Not `for row in dataset`: within a torch worker that would deal the files out again.
        batches = dataset.shard(num_shards=dataset.num_shards, index=part).iter(ROWS)
        while (batch := self._next(batches, where)) is not None:
            names = list(batch)
            for values in zip(*batch.values(), strict=True):
                yield dict(zip(names, values, strict=True))

    def check(self) -> None:
        """Checks that every local file is UTF-8 and at least one has text. The hub is not asked."""
        if self.on_hub:
            return
        for path in self.files:
            self._digest(path)
        if not any(text.strip() for part in range(len(self.files)) for text in self.records(part)):
            self.rows.check_found()
            among = f" in the records that where={self.where} takes" if self.where else ""
            raise ConfigError(f"{self.source} holds no text{among}.")

    def content(self) -> list[Any]:
        """Returns what identifies the corpus: the digests of its files, or the hub's revision."""
        if self.on_hub:
            return [self.source, self.config_name, self.records_split, self.revision]
        return [[n, self._digest(f)] for n, f in zip(self.names, self.files, strict=True)]

    def _digest(self, path: Path) -> str:
        """Returns the sha256 of a part, checking its encoding on the way; computed once."""
        if path not in self._digests:
            is_text = kind_of(path) != ".parquet" and not path.is_dir()
            files = saved_files(path) if path.is_dir() else [path]
            self._digests[path] = " ".join(file_digest(file, is_text) for file in files)
        return self._digests[path]

    def _load(self) -> Any:
        if self._dataset is None:
            self._dataset = self._open()
        return self._dataset

    def _open(self) -> Any:
        # Imported here, since it takes seconds.
        import datasets
        from datasets.exceptions import DatasetsError

        try:
            return datasets.load_dataset(
                self.source, name=self.config_name, split=self.records_split,
                revision=self.revision, streaming=True,
            )  # fmt: skip
        except (DatasetsError, OSError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"{self.source!r} could not be opened (config {self.config_name!r}, split "
                f"{self.records_split!r}, revision {self.revision!r}): {error} Check the name and "
                "the connection, or give a local .txt, .jsonl or .parquet file or folder. A hub "
                "data set that is a script may be read with revision=refs/convert/parquet."
            ) from error

    def _next(self, batches: Iterator[Any], where: str) -> dict[str, list[Any]] | None:
        from datasets.exceptions import DatasetsError

        try:
            return next(batches, None)
        except (DatasetsError, OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
            raise ConfigError(f"{where} cannot be read: {error}") from error


def corpus_files(source: str, split: str | None = None) -> list[Path]:
    """Lists the text files of a local source, in the order of their paths, or the folders of saved
    data sets.

    Raises:
        ConfigError: there is none, or they are of several kinds.
    """
    root = existing_path(source)
    if root is None:
        raise ConfigError(
            f"No file or folder {source!r}. Give a .txt, .jsonl or .parquet file, a folder of "
            "them, or a data set's id on the Hugging Face hub (owner/name)."
        )
    if root.is_dir() and is_saved(root):
        return saved_folders(root, split)
    return files_of_one_kind(root, [root] if root.is_file() else root.rglob("*"), KINDS)
