"""A book from its file to passages, windows and splits."""

from __future__ import annotations

import json
import logging
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.data.book.files import write_epub, write_pdf
from unlearning.data import LOTRDataModule
from unlearning.data.book import CleaningRules, PromptLength
from unlearning.data.template import PromptTemplate
from unlearning.errors import ConfigError
from unlearning.run.config.targets import build
from unlearning.types import Batch

SPLITS = ("train", "validation", "test")
CONF = Path(__file__).resolve().parents[3] / "conf/data"
NUMBERS = ("one", "two", "three", "four", "five", "six")
REAL = Path(__file__).resolve().parents[3] / "../shared/data/books/well_at_worlds_end.txt"


def chapter(name: str, num_paragraphs: int = 4) -> list[str]:
    """Paragraphs of 3 sentences of 5 to 9 words; no two chapters share a word."""
    draw = random.Random(name)
    return [
        " ".join(
            " ".join(f"{name}{draw.randrange(1000)}" for _ in range(draw.randint(5, 9))).title()
            + "."
            for _ in range(3)
        )
        for _ in range(num_paragraphs)
    ]


CHAPTERS = [chapter(name) for name in NUMBERS]


def as_text(chapters: list[list[str]] = CHAPTERS) -> str:
    parts = [[f"CHAPTER {n}", *paragraphs] for n, paragraphs in enumerate(chapters, start=1)]
    return "\n\n".join(paragraph for part in parts for paragraph in part)


@pytest.fixture
def book(tmp_path: Path) -> str:
    path = tmp_path / "book.txt"
    path.write_text("A Book\n\nby Somebody\n\n" + as_text())
    return str(path)


def all_texts(data: LOTRDataModule) -> list[str]:
    return sorted(text for split in SPLITS for text in data.texts(split))


def write_book(folder: Path, kind: str) -> str:
    """The same book as pages (4 paragraphs each, with head and number) or as sections."""
    path = folder / f"book.{kind}"
    pages = [
        "\n".join(["A RUNNING HEAD", *chunk, f"- {number} -"])
        for number, chunk in enumerate(_pages_of_lines(), start=1)
    ]
    if kind == "epub":
        html = ["".join(f"<p>{p}</p>" for p in paragraphs) for paragraphs in CHAPTERS]
        write_epub(path, [f"<h2>Chapter {n}</h2>{h}" for n, h in enumerate(html, start=1)])
    elif kind == "pdf":
        write_pdf(path, [page.split("\n") for page in pages])
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"text": page}) + "\n" for page in pages))
    else:
        path.write_text("\f".join(pages))
    return str(path)


def _pages_of_lines() -> Iterator[list[str]]:
    """Lines of at most 60 characters, 20 a page, paragraphs parted by short lines only."""
    lines = []
    for number, paragraphs in enumerate(CHAPTERS, start=1):
        lines.append(f"CHAPTER {number}")
        for paragraph in paragraphs:
            line = ""
            for word in paragraph.split():
                if len(line) + len(word) > 59:
                    lines.append(line)
                    line = ""
                line = f"{line} {word}".strip()
            lines.append(line)
    return (lines[k : k + 20] for k in range(0, len(lines), 20))


@pytest.mark.parametrize("kind", ["epub", "pdf", "jsonl", "txt"])
def test_every_kind_of_file_is_the_same_book(kind: str, tmp_path: Path) -> None:
    data = LOTRDataModule(write_book(tmp_path, kind))
    data.check()
    words = sorted(text.split() for text in all_texts(data))
    assert words == sorted(" ".join(paragraphs).split() for paragraphs in CHAPTERS)
    if kind == "epub":
        assert all_texts(data) == sorted("\n\n".join(paragraphs) for paragraphs in CHAPTERS)
    else:
        pages = len(list(_pages_of_lines()))
        assert data.counts["dropped_lines"] == data.counts["repeated_lines"] == pages


def test_prompt_and_response_are_a_passage_and_passages_the_book(book: str) -> None:
    data = LOTRDataModule(book, passage_words=30)
    assert data.counts == {}
    taken = set()
    for split in SPLITS:
        passages = data.passages(split)
        for example in data.examples(split):
            passage = example.prompt + example.response
            assert passage in passages
            assert example.response[0].isspace() and example.response.strip()
            assert len(example.prompt) <= 0.2 * len(passage)
            taken.add(passage)
        for text in data.texts(split):
            of_chapter = [p for p in passages if p in text]
            assert re.sub(r"\s+", " ", text) == re.sub(r"\s+", " ", " ".join(of_chapter))
    assert taken == {p for split in SPLITS for p in data.passages(split)}
    assert all_texts(data) == sorted("\n\n".join(paragraphs) for paragraphs in CHAPTERS)
    assert data.counts == {"words_before_first_chapter": 4}
    assert data.num_short == data.num_overlapping == 0


def test_a_split_begins_with_a_sample_of_it(book: str) -> None:
    data = LOTRDataModule(book, passage_words=20, fractions=(0.9, 0, 0.1))
    train = [e.prompt + e.response for e in data.examples("train")]
    in_order = data.passages("train")
    assert sorted(train) == sorted(in_order) and train != in_order
    firsts = {passage.split()[0].rstrip("0123456789").lower() for passage in train[:8]}
    assert len(firsts) > 2  # chapters


def test_held_out_passages_share_no_text_with_training_chapters(tmp_path: Path) -> None:
    refrain = " ".join(f"refrain{n}" for n in range(13)) + "."
    shorter = " ".join(f"short{n}" for n in range(12)) + "."
    chapters = [[*c, refrain, shorter] for c in CHAPTERS]
    path = tmp_path / "book.txt"
    path.write_text(as_text(chapters))
    data = LOTRDataModule(str(path), fractions=(0.5, 0, 0.5), passage_words=20)
    data.setup()
    held_out = [e.prompt + e.response for e in data.examples("test")]
    assert data.num_overlapping == 3 == len(data.texts("test"))  # one a chapter
    assert held_out and not any("refrain0" in passage for passage in held_out)
    assert any("short0" in passage for passage in data.passages("test"))
    train = " ".join(data.texts("train")).split()
    grams = {tuple(train[k : k + 13]) for k in range(len(train) - 12)}
    for passage in held_out:
        words = passage.split()
        assert not grams & {tuple(words[k : k + 13]) for k in range(len(words) - 12)}


def test_a_short_passage_on_both_sides_is_a_training_passage(tmp_path: Path) -> None:
    shorter = " ".join(f"short{n}" for n in range(12)) + "."
    path = tmp_path / "book.txt"
    path.write_text(as_text([[*c, shorter] for c in CHAPTERS]))
    data = LOTRDataModule(str(path), fractions=(0.5, 0, 0.5), passage_words=12)
    counts = [
        sum(e.prompt + e.response == shorter for e in data.examples(split)) for split in SPLITS
    ]
    assert counts == [1, 0, 0] and data.passages("test").count(shorter) == 3


def test_what_recurs_in_sections_of_an_epub_is_text(tmp_path: Path) -> None:
    sections = [f"<p>And so on.</p><p>{' '.join(c)}</p>" for c in CHAPTERS]
    path = write_epub(tmp_path / "book.epub", sections)
    data = LOTRDataModule(str(path), chapter_pattern=None, chapter_paragraphs=2)
    assert all(text.startswith("And so on.\n\n") for text in all_texts(data))


def test_both_ways_of_cutting_and_skipped_passages_are_counted(
    book: str, tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        data = LOTRDataModule(book, passage_words=20, prompt={"characters": 90})
        data.setup()
    short = [p for s in SPLITS for p in data.passages(s) if len(p) <= 90]
    assert data.num_short == len(short) > 0
    assert f"{len(short)} passages are too short" in caplog.text
    assert all(len(e.prompt) <= 90 for s in SPLITS for e in data.examples(s))

    in_tokens = LOTRDataModule(book, prompt={"tokens": 7}, tokenizer=tokenizer)
    in_tokens.check()  # a token a word
    assert {len(e.prompt.split()) for e in in_tokens.examples("train")} == {7}
    with pytest.raises(ConfigError, match="needs a tokenizer"):
        LOTRDataModule(book, prompt=PromptLength(tokens=7)).check()
    with pytest.raises(ConfigError, match=r"no training passage is longer.*passage_words=20"):
        LOTRDataModule(book, passage_words=20, prompt={"characters": 900}).setup()


def test_windows_hold_every_token_of_a_chapter_once(book: str, tokenizer) -> None:
    data = LOTRDataModule(book)
    windows = data.windows(tokenizer, 50)
    assert windows == data.windows(tokenizer, 50, split="train")
    sizes, joined = [], []
    for text in data.texts("train"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        full, rest = divmod(len(ids), 49)
        sizes += [49] * full + [rest] * (rest > 0)
        joined += ids
    assert [len(w.response_ids) for w in windows] == sizes and min(sizes) < 49
    assert [i for w in windows for i in w.response_ids] == joined
    assert {w.prompt_ids for w in windows} == {(tokenizer.bos_token_id,)}
    with pytest.raises(ConfigError, match="Unknown split 'all'"):
        data.windows(tokenizer, 50, split="all")  # type: ignore[arg-type]


def test_its_template_is_the_passage_alone(book: str, tokenizer) -> None:
    data = LOTRDataModule(book, tokenizer=tokenizer, batch_size=2)
    assert data.template == PromptTemplate("{prompt}", "", append_eos=False)
    assert isinstance(next(iter(data.train_dataloader())), Batch)
    assert LOTRDataModule(book, template=PromptTemplate()).template == PromptTemplate()


def test_settings_that_change_the_data_change_the_fingerprint(book: str) -> None:
    changes: list[dict] = [
        {},
        {"seed": 1},
        {"fractions": (0.5, 0, 0.5)},
        {"chapters": [1, 5]},
        {"chapter_pattern": None, "chapter_paragraphs": 8},
        {"chapter_pattern": None, "chapter_paragraphs": 5},
        {"passage_words": 30},
        {"prompt": {"fraction": 0.4}},
        {"prompt": {"characters": 25}},
        {"cleaning": {"end": "CHAPTER 5"}},
        {"cleaning": CleaningRules(drop_lines=["CHAPTER 1|.{200,}"])},
    ]
    found = [LOTRDataModule(book, **change).fingerprint() for change in changes]
    assert len(set(found)) == len(found)
    assert LOTRDataModule(book).fingerprint() == found[0]


def test_text_that_is_in_no_example_changes_the_fingerprint(tmp_path: Path) -> None:
    found = []
    for last in ("Alone", "Lonely"):  # a passage of one word is skipped, but fine-tuned on
        path = tmp_path / f"{last}.txt"
        path.write_text(f"{as_text()}\n\n{last}")
        data = LOTRDataModule(
            str(path), chapter_pattern=None, chapter_paragraphs=1, fractions=(1, 0, 0)
        )
        found.append((data.examples("train"), data.fingerprint()))
    assert found[0][0] == found[1][0] and found[0][1] != found[1][1]


def test_the_raw_text_can_come_from_elsewhere() -> None:
    class Told(LOTRDataModule):
        def pages(self) -> list[str]:
            return [as_text()]

    data = Told(source="embedded:told")
    data.check()
    assert all_texts(data) == sorted("\n\n".join(paragraphs) for paragraphs in CHAPTERS)


def test_a_part_of_the_book_by_chapters(book: str) -> None:
    data = LOTRDataModule(book, chapters=[2, 4])
    assert all_texts(data) == sorted("\n\n".join(paragraphs) for paragraphs in CHAPTERS[1:4])
    with pytest.raises(ConfigError, match="within 1 to 6"):
        LOTRDataModule(book, chapters=[2, 9]).check()
    with pytest.raises(ConfigError, match="1 chapters cannot fill 3 splits"):
        LOTRDataModule(book, chapters=[2, 2]).check()


def test_blocks_where_a_book_has_no_chapters(book: str) -> None:
    # 30 + 2 paragraphs: the headings are text now, as is what stands before them.
    data = LOTRDataModule(book, chapter_pattern=None, chapter_paragraphs=8)
    assert sum(len(data.texts(split)) for split in SPLITS) == 4
    assert " ".join(all_texts(data)).count("CHAPTER") == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chapter_pattern": "("}, r"chapter_pattern='\(' is no regular expression"),
        ({"chapter_paragraphs": 0}, "chapter_paragraphs=0: expected at least 1"),
        ({"passage_words": 1}, "passage_words=1: expected at least 2"),
        ({"overlap_words": 0}, "overlap_words=0: expected at least 1"),
        ({"fractions": (0.7, 0.7)}, "fractions"),
        ({"cleaning": {"stop": "x"}}, r"cleaning\.stop: unknown"),
    ],
)
def test_bad_settings_are_found_at_once(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LOTRDataModule("book.txt", **settings)


def test_what_is_wrong_with_the_book_is_found_by_check(tmp_path: Path, book: str) -> None:
    with pytest.raises(ConfigError, match="No file"):
        LOTRDataModule(str(tmp_path / "none.txt")).check()
    with pytest.raises(ConfigError, match=r"found 0 headings.*'#'"):
        LOTRDataModule(book, chapter_pattern="#").check()
    with pytest.raises(ConfigError, match=r"cleaning\.start='#' matches no line"):
        LOTRDataModule(book, cleaning={"start": "#"}).check()
    with pytest.raises(ConfigError, match="no text is left"):
        LOTRDataModule(book, chapter_pattern=None, cleaning={"drop_lines": [".*"]}).check()


def test_its_configuration(book: str) -> None:
    config = OmegaConf.create({"data": OmegaConf.load(CONF / "lotr_bookcorpus.yaml")})
    config.data.seed, config.data.forget.source = 3, book
    config.data.forget.prompt.fraction, config.data.forget.prompt.characters = None, 30
    data = build(config.data.forget, LOTRDataModule, "data.forget")
    expected = LOTRDataModule(book, prompt={"characters": 30}, fractions=(0.8, 0, 0.2), seed=3)
    assert data.fingerprint() == expected.fingerprint()
    template = OmegaConf.load(CONF / "template" / "text.yaml")
    assert PromptTemplate(**template) == data.template


@pytest.mark.skipif(not REAL.exists(), reason="needs a whole book")
def test_real_book() -> None:
    data = LOTRDataModule(str(REAL), chapter_pattern="^[IVXLC]+$", fractions=(0.8, 0, 0.2))
    data.setup()
    assert sum(len(data.texts(split)) for split in SPLITS) == 119
    words = {split: sum(len(t.split()) for t in data.texts(split)) for split in SPLITS}
    # All words but the headings', in the shares asked for.
    assert sum(words.values()) == len(REAL.read_text().split()) - 119
    assert abs(words["test"] / sum(words.values()) - 0.2) < 0.01
    assert data.num_short <= 3 and data.num_overlapping <= 3


def test_passages_may_be_fine_tuned_on_one_by_one(book: str, tokenizer) -> None:
    data = LOTRDataModule(book, finetune_on="passages", passage_words=20)
    windows = data.windows(tokenizer, 500)
    found = [tokenizer.decode(w.response_ids) for w in windows]
    expected = [tokenizer(p, add_special_tokens=False)["input_ids"] for p in data.passages("train")]
    assert found == [tokenizer.decode(ids) for ids in expected]
    assert len(windows) > len(data.texts("train"))
    assert data.fingerprint() != LOTRDataModule(book, passage_words=20).fingerprint()
    with pytest.raises(ConfigError, match="chapters or passages"):
        LOTRDataModule(book, finetune_on="pages")  # type: ignore[arg-type]


@pytest.mark.parametrize("part", [{"train_prompts": 2}, {"answers_per_prompt": 1}])
def test_a_part_of_the_passages_is_refused_since_all_chapters_are_learned(part):
    with pytest.raises(ConfigError, match=r"never unlearned\. Set chapters=\[first, last\]"):
        LOTRDataModule("book.txt", **part)
