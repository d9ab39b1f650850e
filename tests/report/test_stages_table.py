from __future__ import annotations

import pytest

from unlearning.report.sets import finetuned, held_out
from unlearning.report.stages import stages
from unlearning.report.stages_table import PAPER, stage_groups


def test_groups_and_rows(book):
    shown = [(g.title, g.name, [row.label for row in g.rows]) for g in stage_groups(book)]
    to_book = [
        "BLEU to the true text", "ROUGE-L to the true text", "Longest verbatim run, tokens",
        "Longest verbatim run, characters", "Extraction strength", "Exact memorisation",
    ]  # fmt: skip
    normal = [f"{name} to the original model's answers" for name in ("BLEU", "ROUGE-L")]
    sets = ["book_train", "book_heldout", "retain_heldout"]
    of = ["of the book, book_train", "of the book, book_heldout"]
    assert shown == [
        # the embedding was measured on the first set only
        ("Similarity to the book", sets[0], [*to_book, "Embedding similarity to the true text"]),
        ("Similarity to the book", sets[1], to_book),
        ("Similarity of normal answers to the original model's", sets[2], normal),
        ("Perplexity", "", [*of, "of normal text, retain_heldout"]),
        ("Broken answers", "", sets),
    ]


def test_normal_answers_have_the_similarity_of_the_paper_where_it_was_measured(book):
    figures = {"original": 0.61, "before": 0.52, "after": 0.6}
    for part, value in figures.items():
        book[part]["retain_heldout/embedding_to_target"] = {"value": value, "n": 120}
        book[part]["retain_heldout/embedding_to_original"] = {"value": value, "n": 120}
    rows = stage_groups(book)[2].rows
    assert rows[3].label == "Embedding similarity to the true text" and len(rows) == 4
    assert [cell.value for cell in rows[3].cells[:3]] == list(figures.values())


def test_columns_are_the_three_models_and_the_change_from_the_first(book):
    first = stage_groups(book)[0].rows[0]
    assert [cell.value for cell in first.cells] == [1.42, 78.31, 1.93, 0.51]
    assert [cell.interval for cell in first.cells][:2] == ["1.0 to 1.8", "74.1 to 82.5"]
    assert [stage.key for stage in stages(book)] == ["original", "before", "after"]


def test_perplexity_changes_in_percent(book):
    normal = stage_groups(book)[3].rows[2]
    # 25.72 / 24.86 = 1.0346
    assert normal.cells[-1].text == "+3.5\xa0%"
    assert normal.cells[-1].value == pytest.approx(100 * (25.72 / 24.86 - 1), abs=1e-3)


def test_the_taught_passages_come_first_whatever_the_order(book):
    book["prompt_sets"] = dict(reversed(book["prompt_sets"].items()))
    groups = stage_groups(book)
    assert [group.name for group in groups[:2]] == ["book_train", "book_heldout"]
    assert groups[0].rows[0].wanted == "lower is better"
    assert "control" in groups[1].note
    assert groups[1].rows[0].wanted == ""  # should stay as it is


def test_without_an_original_there_are_two_columns_and_a_change(book):
    del book["original"], book["change_from_original"]
    first = stage_groups(book)[0].rows[0]
    assert [cell.value for cell in first.cells] == [78.31, 1.93, -76.38]


def test_what_is_missing_is_a_dash(book):
    for part in ("original", "before", "after", "change_from_original"):
        book[part].pop("book_train/rouge_l_to_target")
    cells = stage_groups(book)[0].rows[1].cells
    assert [cell.value for cell in cells] == [None] * 4


def test_harmful_runs_have_none(metrics):
    assert stage_groups(metrics) == []
    assert [stage.label for stage in stages(metrics)] == ["Before", "After"]


def test_the_paper_forgets_the_text_and_keeps_half_of_the_rest():
    """As printed in Table 2: similarity to the text falls to almost nothing."""
    similar = {name: [float(value) for value in values] for name, values in PAPER}
    for size in ("1.3b", "2.7b"):
        original, finetuned, after = similar[f"OPT-{size}, copyrighted text"]
        assert after < original < finetuned
        original, finetuned, after = similar[f"OPT-{size}, normal answers"]
        assert finetuned < after < original


@pytest.mark.parametrize(
    ("names", "unseen", "seen"),
    [
        (["book_train", "book_heldout"], ["book_heldout"], ["book_train"]),
        (["book", "book_held-out"], ["book_held-out"], ["book"]),
        (["a", "b_train"], ["a"], ["a", "b_train"]),
        ([], [], []),
    ],
)
def test_sets_by_name(names, unseen, seen):
    run = {"prompt_sets": dict.fromkeys(names, "copyright")}
    assert held_out(run, "copyright") == unseen
    assert finetuned(run, "copyright") == seen
