from __future__ import annotations

import inspect
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from unlearning.data.corpus import Corpus
from unlearning.data.records.encoding import file_digest
from unlearning.errors import ConfigError


def records(corpus: Corpus) -> list[list[str]]:
    return [list(corpus.records(part)) for part in range(len(corpus.names))]


def test_a_folder_of_text_with_folders_below(tmp_path: Path) -> None:
    (tmp_path / "b [1]*").mkdir()  # no pattern
    (tmp_path / "b [1]*" / "x{y}.txt").write_bytes(b"\xef\xbb\xbfmark\r\nlines\r\n")
    (tmp_path / "a.TXT").write_text("one\n\nt\u2028wo")
    (tmp_path / "c.txt").write_text("")
    (tmp_path / "notes.md").write_text("no text")
    corpus = Corpus(str(tmp_path))
    assert corpus.names == ["a.TXT", "b [1]*/x{y}.txt", "c.txt"]
    assert records(corpus) == [["one", "", "t\u2028wo"], ["mark", "lines"], []]
    corpus.check()


def test_tables(tmp_path: Path) -> None:
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"body": "x y", "n": 1}\n{"body": null, "n": 2}\n')
    assert records(Corpus(str(lines), "body")) == [["x y", ""]]
    with pytest.raises(ConfigError, match="column 'text' is missing; present are 'body', 'n'"):
        records(Corpus(str(lines)))
    with pytest.raises(ConfigError, match=r"row 1, column 'n': the text is 1, expected text"):
        records(Corpus(str(lines), "n"))
    folder = tmp_path / "tables"
    folder.mkdir()
    for name in "ba":
        table = pyarrow.table({"text": [f"{name}{n}" for n in range(5)]})
        pyarrow.parquet.write_table(table, folder / f"{name}.parquet", row_group_size=2)
    found = records(Corpus(str(folder)))
    assert found == [[f"{name}{n}" for n in range(5)] for name in "ab"]


@pytest.mark.parametrize("block", [1, 2, 3, 7, 100])
def test_a_wrong_encoding_is_found_at_its_byte(tmp_path: Path, block: int) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("gr\u00fcn\n\u20ac ".encode() + b"caf\xe9 x\n")
    with pytest.raises(ConfigError, match=r"byte 0xe9 at position 13 \(line 2\).*WINDOWS-1252"):
        file_digest(path, block_size=block)
    path.write_bytes("gr\u00fcn".encode()[:-2])
    with pytest.raises(ConfigError, match=r"byte 0xc3 at position 2 \(line 1\)"):
        file_digest(path, block_size=block)
    path.write_bytes("gr\u00fcn \u20ac".encode())
    assert len(file_digest(path, block_size=block)) == 64


@pytest.mark.parametrize(
    ("encoding", "message"),
    [("utf-16", "looks like UTF-16"), ("utf-16-le", "NUL byte at position 1")],
)
def test_utf16_is_named(tmp_path: Path, encoding: str, message: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("plain".encode(encoding))
    with pytest.raises(ConfigError, match=message):
        Corpus(str(path)).check()
    with pytest.raises(ConfigError, match=message):
        next(Corpus(str(path)).records(0))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", " \n\n", "holds no text"),
        ("a.jsonl", '{"text": "x"}\n{"text": \n', r"a\.jsonl:2: not valid JSON"),
        ("a.parquet", "PAR1", "not a readable parquet file"),
        ("a.pdf", "x", "expected data files of one kind .*found none"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        corpus = Corpus(str(path))
        corpus.check()
        records(corpus)


def test_no_such_source(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No file or folder"):
        Corpus(str(tmp_path / "none")).check()
    with pytest.raises(ConfigError, match=r"No file or folder 'books/none\.txt'"):
        Corpus("books/none.txt").check()  # not taken for a hub id
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.jsonl").write_text("{}")
    with pytest.raises(ConfigError, match=r"several kinds \(\.jsonl, \.txt\)"):
        Corpus(str(tmp_path)).check()


def test_the_hub_is_asked_with_its_own_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    signature, asked = inspect.signature(datasets.load_dataset), []

    def load_dataset(*args, **kwargs):
        asked.append(signature.bind(*args, **kwargs).arguments)
        rows = datasets.Dataset.from_list([{"text": f"row {n}"} for n in range(5)])
        return rows.to_iterable_dataset(num_shards=2)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    corpus = Corpus("bookcorpus/bookcorpus")
    corpus.check()
    assert asked == []
    assert corpus.names == ["0", "1"]
    assert records(corpus) == [["row 0", "row 1", "row 2"], ["row 3", "row 4"]]
    expected = {"path": "bookcorpus/bookcorpus", "name": None, "split": "train"}
    revision = "refs/convert/parquet"  # the data set itself is a script
    assert asked == [{**expected, "revision": revision, "streaming": True}]
    assert Corpus("owner/other").revision is None


def test_a_failing_hub_says_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*args, **kwargs):
        raise RuntimeError("Dataset scripts are no longer supported")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ConfigError, match=r"'owner/name'.*scripts.*refs/convert/parquet"):
        next(Corpus("owner/name").records(0))
