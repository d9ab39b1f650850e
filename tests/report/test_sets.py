"""Which prompt sets were trained on: as written down, and by the name in folders of version 0.4."""

from __future__ import annotations

import pytest

from unlearning.report.sets import finetuned, held_out, split_of


def _run(**splits: str) -> dict[str, dict[str, dict[str, str]]]:
    return {"prompt_sets": {n: {"kind": "retain", "split": s} for n, s in splits.items()}}


def test_the_split_decides_and_not_the_name():
    run = _run(heldout="train", seen_in_training="test", later="validation", whole="all")
    assert held_out(run, "retain") == ["seen_in_training", "later"]
    assert finetuned(run, "retain") == ["heldout", "whole"]


def test_without_an_unseen_set_all_that_were_not_trained_on_count_as_held_out():
    assert held_out(_run(a="train", b="all", c=""), "retain") == ["b", "c"]


@pytest.mark.parametrize(
    ("names", "unseen"),
    [
        (["book_train", "book_heldout"], ["book_heldout"]),
        (["book_train", "Book held-out"], ["Book held-out"]),
        (["book_train", "book_test"], ["book_test"]),
        (["passages", "unseen_chapters", "x-validation"], ["unseen_chapters", "x-validation"]),
        (["testimony", "latest"], []),  # words, not letters
    ],
)
def test_of_version_0_4_the_name_says_it(names, unseen):
    run = {"prompt_sets": dict.fromkeys(names, "copyright")}
    assert finetuned(run, "copyright") == [name for name in names if name not in unseen]
    if unseen:
        assert held_out(run, "copyright") == unseen
    assert split_of({"prompt_sets": {"seen prompts": "retain"}}, "seen prompts") == "train"
