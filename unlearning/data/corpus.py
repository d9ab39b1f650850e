"""Reads a large corpus of plain text in parts, as streams.

A part is a local file or a shard of a hub data set. Which text a part holds never changes, so that
a place in the corpus can be found again; memory does not grow with the corpus.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unlearning.data.encoding import file_digest
from unlearning.data.source import is_hub_id, require_columns
from unlearning.errors import ConfigError

BUILDERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".txt": ("text", {"encoding": "utf-8-sig", "chunksize": 1 << 20}),
    ".jsonl": ("json", {"chunksize": 1 << 20}),
    ".parquet": ("parquet", {"batch_size": 1000}),
}
"""Suffix -> builder of `datasets`, and its settings: the utf-8-sig codec drops a byte order mark,
and what is held at a time is about a megabyte instead of ten."""
ROWS = 1000

# The hub's own data set is a script, which `datasets` 4 no longer runs; this is its converted form.
REVISIONS = {"bookcorpus/bookcorpus": "refs/convert/parquet"}


class Corpus:
    """Streams the lines of text files, or the rows of tables, a part at a time.

    Args:
        source: a hub id, or a .txt, .jsonl or .parquet file, or a folder of files of one such kind
            (those in folders below it too), in the order of their paths.
        text_column: of the rows; lines of .txt files need none.
        records_split: which split of a hub data set.
        config_name: the hub data set's configuration.
        revision: branch, tag or commit on the hub.

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
    ) -> None:
        self.source, self.text_column = source, text_column
        self.records_split, self.config_name = records_split, config_name
        self.revision = revision if revision is not None else REVISIONS.get(source)
        self.on_hub = is_hub_id(source) and Path(source).suffix.lower() not in BUILDERS
        self._files: list[Path] | None = None
        self._dataset: Any = None
        self._digests: dict[Path, str] = {}

    @property
    def plain_lines(self) -> bool:
        """Whether a record is a line of a text file, rather than a row of a table."""
        return not self.on_hub and self.files[0].suffix.lower() == ".txt"

    @property
    def files(self) -> list[Path]:
        if self._files is None:
            self._files = corpus_files(self.source)
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
        if not self.on_hub:
            self._digest(self.files[part])
        dataset = self._load()
        # Not `for row in dataset`: within a torch worker that would deal the files out again.
        batches = dataset.shard(num_shards=dataset.num_shards, index=part).iter(ROWS)
        while (batch := self._next(batches, where)) is not None:
            require_columns(batch, [self.text_column], where)
            for text in batch[self.text_column]:
                if text is not None and not isinstance(text, str):
                    raise ConfigError(
                        f"{where}: column {self.text_column!r} holds {text!r}, expected text."
                    )
                yield text or ""

    def check(self) -> None:
        """Checks that every local file is UTF-8 and at least one has text. The hub is not asked."""
        if self.on_hub:
            return
        for path in self.files:
            self._digest(path)
        if not any(text.strip() for part in range(len(self.files)) for text in self.records(part)):
            raise ConfigError(f"{self.source} holds no text.")

    def content(self) -> list[Any]:
        """Returns what identifies the corpus: the digests of its files, or the hub's revision."""
        if self.on_hub:
            return [self.source, self.config_name, self.records_split, self.revision]
        return [[n, self._digest(f)] for n, f in zip(self.names, self.files, strict=True)]

    def _digest(self, path: Path) -> str:
        """Returns the sha256 of a file, checking its encoding on the way; computed once."""
        if path not in self._digests:
            self._digests[path] = file_digest(path, is_text=path.suffix.lower() != ".parquet")
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
            if self.on_hub:
                return datasets.load_dataset(
                    self.source, name=self.config_name, split=self.records_split,
                    revision=self.revision, streaming=True,
                )  # fmt: skip
            builder, options = BUILDERS[self.files[0].suffix.lower()]
            # Escaped: a name may hold brackets, which would be taken for a pattern.
            names = [glob.escape(str(path.absolute())) for path in self.files]
            return datasets.load_dataset(
                builder, data_files=names, split="train", streaming=True, **options
            )
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


def corpus_files(source: str) -> list[Path]:
    """Lists the text files of a local source, in the order of their paths.

    Raises:
        ConfigError: there is none, or they are of several kinds.
    """
    root = Path(source).expanduser()
    if not root.exists():
        raise ConfigError(
            f"No file or folder {source!r}. Give a .txt, .jsonl or .parquet file, a folder of "
            "them, or a data set's id on the Hugging Face hub (owner/name)."
        )
    found = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    files = [path for path in found if path.suffix.lower() in BUILDERS]
    kinds = sorted({path.suffix.lower() for path in files})
    if len(kinds) != 1:
        what = f"files of several kinds ({', '.join(kinds)})" if kinds else "none"
        raise ConfigError(
            f"{source!r}: expected files of one kind ({', '.join(BUILDERS)}), found {what}. Name a "
            "single file or another folder."
        )
    return files
