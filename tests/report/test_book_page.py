from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from unlearning.report import write_report
from unlearning.report.examples import EXCERPT, SHOWN

from .book import PASSAGE


def read(folder: Path) -> str:
    return write_report(folder).read_text(encoding="utf-8")


def test_every_part_is_there(book, make_book_run, parse):
    page = parse(read(make_book_run(book)))
    for shown in (
        "All 3 checks passed.", "Book forgotten", "Normal text intact", "Output sound",
        "fine-tuned: LoRA, rank 16", "Reference: the fine-tuned model (AdapterOff).",
        "First: fine-tuning on the book", "1 min 36 s", "final nll",
        "The book's passages", "212", "skipped too short", "chapters train",
        "All models in one table", "The paper's own Table 2", "cosine similarities", ".371",
        "Original", "Fine-tuned", "Unlearned", "Change from original", "Change from fine-tuned",
        "fine-tuned, before unlearning", "Text of a book.", "verbatim run: 40 tokens",
        "at most 2 points above the original model's", "at least 60",
    ):  # fmt: skip
        assert shown in page.text, shown
    for absent in ("harmful", "Content warning", "The judge", "Side damage", "Before"):
        assert absent not in page.text, absent


def test_numbers_are_those_of_the_file(book, make_book_run, parse):
    """Every figure is shown, and none that is not in the file."""
    page = parse(read(make_book_run(book)))
    parts = ("original", "before", "after", "change", "change_from_original")
    written = {entry["value"] for part in parts for entry in book[part].values()}
    assert set(page.values) <= written
    for part in ("original", "before", "after", "change"):
        assert {entry["value"] for entry in book[part].values()} <= set(page.values), part


def test_pictures_have_a_mark_per_model(book, make_book_run):
    html = read(make_book_run(book))
    (picture,) = re.findall(r'<svg[^>]*aria-label="BLEU to the true text\. .*?</svg>', html)
    assert "book_train: original 1.4, fine-tuned 78.3, unlearned 1.9" in picture
    for style in ("original", "before", "after"):
        assert picture.count(f'<circle class="dot {style}"') == 2  # two sets
    for title in ("Extraction strength", "BLEU to the original model&#39;s", "Perplexity of the"):
        assert f'aria-label="{title}' in html, title


def test_tables_are_accessible(book, make_book_run, parse):
    page = parse(read(make_book_run(book)))
    scopes = [attrs.get("scope") for tag, attrs in page.elements if tag == "th"]
    assert set(scopes) == {"row", "col", "rowgroup"}
    tags = [tag for tag, _ in page.elements]
    assert tags.count("caption") == tags.count("table")
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    targets = {a["href"][1:] for tag, a in page.elements if tag == "a"}
    assert len(ids) == len(set(ids)) and targets <= set(ids)


def test_the_book_is_folded_away_and_cut(book, make_book_run, parse):
    page = parse(read(make_book_run(book)))
    sets = page.with_class("set")
    assert ["open" in attrs for _, attrs in sets] == [False, False, True]
    assert page.text.count(f"{SHOWN} of 8 prompts · text of the book") == 2
    recited = f" {PASSAGE * 6}"
    assert len(recited) > EXCERPT
    assert recited[:EXCERPT] in page.text
    assert recited[: EXCERPT + 1] not in page.text
    # of a prompt the end is shown, since that is what is continued
    assert f"…{(PASSAGE * 6 + 'And then')[-EXCERPT:]}" in page.text
    assert "begins here" not in page.text


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ("finetuned", "the fine-tuned model (Copy)"),
        ("base", "the model before fine-tuning (Copy)"),
        ("<b>x</b>", "<b>x</b> (Copy)"),
        (None, "Reference: Copy."),
    ],
)
def test_the_reference_is_named(of, said, book, make_book_run, parse):
    book |= {"reference": "Copy", "reference_of": of}
    assert said in parse(read(make_book_run(book))).text


@pytest.mark.parametrize("key", ["finetune", "book", "original", "change_from_original"])
@pytest.mark.parametrize("empty", [None, "absent"])
def test_missing_pieces_leave_a_page(key, empty, book, make_book_run, parse):
    book[key] = None
    if empty == "absent":
        del book[key]
    text = parse(read(make_book_run(book))).text
    assert "Did it work?" in text
    assert "None" not in text.replace("None recorded", "")


def test_the_judge_is_shown_where_there_is_one(book, make_book_run, parse):
    book["classifier"] = {"accuracy": 0.97, "threshold": 0.5}
    text = parse(read(make_book_run(book))).text
    assert "The judge" in text
    assert "Longest verbatim run" in text  # what belongs to the book stays


ATTACK = "<script>alert(1)</script>"


def test_text_from_outside_stays_text(book, make_book_run, parse):
    book["prompt_sets"] = {ATTACK: "copyright", f"r{ATTACK}": "retain"}
    figure = {"value": 1.0, "low": 0.5, "high": 1.5, "n": 3}
    for part in ("original", "before", "after", "change", "change_from_original"):
        book[part] = {f"{ATTACK}/{metric}": figure for metric in ("x_to_target", "perplexity")}
    book["finetune"] = book["book"] = {ATTACK: ATTACK, "method": ATTACK}
    folder = make_book_run(book)
    row = {"prompt_set": ATTACK, "index": 0, "prompt": ATTACK, "completion": ATTACK}
    lines = [json.dumps({**row, "stage": stage}) for stage in ("original", "before", "after")]
    (folder / "generations.jsonl").write_text("\n".join(lines), encoding="utf-8")
    page = parse(read(folder))
    assert "script" not in page.tags()
    assert page.text.count(ATTACK) > 20
