"""Compressed files, saved data sets, and paths that are no files."""

from __future__ import annotations

import builtins
import gzip
import json
import lzma
import os
import random
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
import zstandard

from unlearning.data import (
    BookCorpusDataModule,
    JsonlDataModule,
    LOTRDataModule,
    PretrainingDataModule,
)
from unlearning.data.corpus import Corpus
from unlearning.data.records.files import iterate_file
from unlearning.data.records.opening import kind_of, open_bytes
from unlearning.data.records.source import check_source, is_hub_id, iterate_records
from unlearning.errors import ConfigError

ROWS = [{"prompt": f"Köln {n}?", "response": f"Am Rhein, {n}."} for n in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}


def packed(path: Path, text: str) -> str:
    path.write_bytes(PACK[path.suffix.lower()](text.encode()))
    return str(path)


@pytest.mark.parametrize("suffix", [*PACK, ".GZ"])
def test_records_of_compressed_files(tmp_path: Path, suffix: str) -> None:
    pack, columns = (lambda name, text: packed(tmp_path / f"{name}{suffix}", text)), ["prompt"]
    for name, text in (
        ("a.jsonl", LINES),
        ("a.json", json.dumps(ROWS)),
        (
            "a.csv",
            "prompt,response\n" + "".join(f'{r["prompt"]},"{r["response"]}"\n' for r in ROWS),
        ),
    ):
        source = pack(name, text)
        assert list(iterate_records(source, columns=columns)) == ROWS
        assert check_source(source, columns=columns) == ["prompt", "response"]
    with pytest.raises(ConfigError, match=r"b\.jsonl\..*:4: not valid JSON"):
        list(iterate_file(Path(pack("b.jsonl", LINES + "{"))))
    with pytest.raises(ConfigError, match=r"b\.csv\..*:3: 1 fields"):
        list(iterate_file(Path(pack("b.csv", "a,b\n1,2\n3\n"))))


@pytest.mark.parametrize("suffix", PACK)
def test_all_of_a_file_of_several_parts_and_blocks(tmp_path: Path, suffix: str) -> None:
    path, text = tmp_path / f"a{suffix}", random.Random(0).randbytes(150_000)
    path.write_bytes(b"".join(PACK[suffix](text[n : n + 60_000]) for n in (0, 60_000, 120_000)))
    with open_bytes(path) as file:
        assert file.read() == text
    with open_bytes(path) as file:
        assert b"".join(iter(lambda: file.read(999), b"")) == text
    path.write_bytes(PACK[suffix](b""))
    with open_bytes(path) as file:
        assert file.read() == b""


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("harm", ["cut", "cut in a later frame", "flipped", "other", "nothing"])
def test_a_damaged_file_is_named(tmp_path: Path, suffix: str, harm: str) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    whole = PACK[suffix]((LINES * 50).encode() + random.Random(0).randbytes(2000).hex().encode())
    damaged = {
        "cut": whole[: len(whole) // 2],
        "cut in a later frame": whole + whole[:-3],
        "flipped": whole[:600] + bytes(255 - b for b in whole[600:640]) + whole[640:],
        "other": LINES.encode(),
        "nothing": b"",
    }[harm]
    path.write_bytes(damaged)
    if harm == "nothing" and suffix == ".gz":
        return  # to gzip, no member at all is an empty text
    with pytest.raises(ConfigError, match=rf"a\.jsonl\{suffix}.*(damaged|not UTF-8)"):
        list(iterate_file(path))


def test_zstandard_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, load = packed(tmp_path / "a.jsonl.zst", LINES), builtins.__import__

    def without(name, *args, **kwargs):
        if name == "zstandard":
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"needs the package 'zstandard'.*unlearning\[zst\]"):
        JsonlDataModule(source).check()


def test_compressed_under_a_plain_name(tmp_path: Path) -> None:
    for suffix, name in ((".gz", "gzip"), (".xz", "xz"), (".zst", "zstandard")):
        path = tmp_path / "a.jsonl"
        path.write_bytes(PACK[suffix](LINES.encode()))
        with pytest.raises(ConfigError, match=rf"a\.jsonl is no text but an? {name} file"):
            JsonlDataModule(str(path)).check()


def test_parquet_is_not_packed_again(tmp_path: Path) -> None:
    path = Path(packed(tmp_path / "a.parquet.gz", "x"))
    with pytest.raises(ConfigError, match="parquet is compressed already"):
        list(iterate_file(path))


def test_kinds() -> None:
    names = ["a.JSONL.gz", "a.b.csv", "a.txt.XZ", "a.gz", "a", "a.csv.gz.zst", "v1.5/a.parquet"]
    assert [kind_of(name) for name in names] == [
        ".jsonl", ".csv", ".txt", "", "", ".gz", ".parquet"
    ]  # fmt: skip
    assert not is_hub_id("owner/rows.jsonl.gz")


def test_a_folder_with_a_file_twice(tmp_path: Path) -> None:
    packed(tmp_path / "a.jsonl.gz", LINES)
    assert list(iterate_records(str(tmp_path), columns=[])) == ROWS
    (tmp_path / "a.jsonl").write_text(LINES)
    with pytest.raises(ConfigError, match=r"holds a\.jsonl and a\.jsonl\.gz, the same records"):
        JsonlDataModule(str(tmp_path)).check()
    with pytest.raises(ConfigError, match="the same records twice"):
        Corpus(str(tmp_path), "prompt").check()


def test_compressed_corpora_books_and_texts(tmp_path: Path) -> None:
    text = "".join(f"Sentence {n} of a text. And one more here.\n\n" for n in range(40))
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/a.txt").write_text(text)
    plain = BookCorpusDataModule(str(tmp_path / "plain"), fractions=(1, 0, 0))
    for suffix in PACK:
        source = packed(tmp_path / f"a.txt{suffix}", text)
        assert list(Corpus(source).records(0)) == list(Corpus(plain.source).records(0))
        found = BookCorpusDataModule(source, fractions=(1, 0, 0))
        found.check()
        assert list(found.texts()) == list(plain.texts())
        assert LOTRDataModule(source).pages() == PretrainingDataModule(text=source).passages()
        rows = packed(tmp_path / f"a.jsonl{suffix}", LINES)
        assert list(Corpus(rows, "prompt").records(0)) == [row["prompt"] for row in ROWS]
        assert LOTRDataModule(rows, "prompt").pages() == [row["prompt"] for row in ROWS]


# --- save_to_disk ---------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    datasets.disable_progress_bars()
    rows = datasets.Dataset.from_list([*ROWS, {"prompt": "w", "response": None}])
    rows.save_to_disk(str(tmp_path / "one"), num_shards=2)
    parts = {"train": rows.select(range(2)), "test": rows.select([2])}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "both"))
    return tmp_path


def test_saved_data_sets_and_their_splits(saved: Path) -> None:
    def read(name: str, **options):
        return list(iterate_records(str(saved / name), columns=["prompt"], **options))

    assert read("one") == read("one", split="test") == [*ROWS, {"prompt": "w", "response": None}]
    assert read("both") == ROWS[:2] and read("both", split="test") == ROWS[2:]
    assert read("both", split=None) == ROWS
    assert check_source(str(saved / "one"), columns=["prompt"]) == ["prompt", "response"]
    with pytest.raises(ConfigError, match="no split 'validation'; there are 'train', 'test'"):
        read("both", split="validation")
    with pytest.raises(ConfigError, match="row 4, column 'response': the answer is empty"):
        JsonlDataModule(str(saved / "one")).setup()
    with pytest.raises(ConfigError, match="column 'text' is missing; present are 'prompt'"):
        JsonlDataModule(str(saved / "one"), prompt_column="text").check()


def test_a_saved_corpus(saved: Path) -> None:
    corpus = Corpus(str(saved / "both"), "response", records_split="test")
    assert corpus.names == ["test"] and list(corpus.records(0)) == ["Am Rhein, 2."]
    corpus.check()
    one = Corpus(str(saved / "one"), "response", where={"prompt": "w"})
    with pytest.raises(ConfigError, match="holds no text in the records that where="):
        one.check()
    before = BookCorpusDataModule(str(saved / "one"), text_column="prompt").fingerprint()
    changed = datasets.Dataset.from_list(ROWS)
    changed.save_to_disk(str(saved / "one2"))
    (saved / "one").rename(saved / "old")
    (saved / "one2").rename(saved / "one")
    assert BookCorpusDataModule(str(saved / "one"), text_column="prompt").fingerprint() != before


@pytest.mark.parametrize("name", ["state.json", "dataset_info.json", "data-00001-of-00002.arrow"])
@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b"[" * 5000])
def test_a_damaged_saved_data_set_is_named(saved: Path, name: str, content: bytes) -> None:
    (saved / "one" / name).write_bytes(content)
    if (name, content) == ("dataset_info.json", b"{}"):
        return  # which says no less than is needed
    with pytest.raises(ConfigError, match=r"one' was made by save_to_disk and cannot be read"):
        list(iterate_records(str(saved / "one"), columns=["prompt"]))


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"splits": 1}', b"\xff", b"[" * 5000])
def test_a_damaged_list_of_splits_is_named(saved: Path, content: bytes) -> None:
    (saved / "both/dataset_dict.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"dataset_dict\.json cannot be read"):
        check_source(str(saved / "both"), columns=["prompt"])


# --- what is no file ------------------------------------------------------------------------------


def _place(folder: Path, what: str) -> str:
    path = folder / "a.jsonl"
    if what == "pipe":
        os.mkfifo(path)
    elif what == "loop":
        path.symlink_to(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "folder":
        path.mkdir()
    elif what == "gone":
        path.symlink_to(folder / "absent.jsonl")
    return {"home": "~no-such-user/a.jsonl", "long": "a" * 5000 + ".jsonl", "nul": "a\0.jsonl",
            "blank": " "}.get(what, str(path))  # fmt: skip


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("pipe", "is a pipe"),
        ("loop", "cannot be opened: Too many levels of symbolic links"),
        ("device", "is a device or socket"),
        ("folder", r"a\.jsonl is a folder|a\.jsonl' is a folder|found none"),
        ("gone", "No (file|text)"),
        ("home", "cannot be opened: Could not determine home"),
        ("long", "cannot be opened: File name too long"),
        ("nul", "cannot be opened: embedded null"),
        ("blank", "empty text"),
    ],
)
def test_what_is_no_file_is_refused_by_every_reader(
    tmp_path: Path, what: str, message: str
) -> None:
    source = _place(tmp_path, what)
    readers: list[Callable[[], object]] = [
        JsonlDataModule(source).check,
        BookCorpusDataModule(source).check,
        LOTRDataModule(source).pages,
        PretrainingDataModule(text=source).check,
    ]
    for read in readers:
        with pytest.raises(ConfigError, match=message):
            read()


def test_a_pipe_in_a_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").write_text(LINES)
    with pytest.raises(ConfigError, match="is a pipe"):
        JsonlDataModule(str(tmp_path)).check()
    with pytest.raises(ConfigError, match="is a pipe"):
        Corpus(str(tmp_path)).check()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(LINES)
    path.chmod(0)
    with pytest.raises(ConfigError, match=r"a\.jsonl cannot be read: Permission denied"):
        JsonlDataModule(str(path)).check()
