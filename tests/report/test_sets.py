"""What a prompt set's name says of its training."""

from __future__ import annotations

import pytest

from unlearning.report.sets import held_out, taught


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
def test_a_control_is_no_set_of_taught_passages(names, unseen):
    assert taught(names) == [name for name in names if name not in unseen]
    if unseen:
        assert held_out(names) == unseen


def test_where_no_name_says_so_all_that_were_not_trained_on_count_as_held_out():
    assert held_out(["retain", "retain_train", "seen prompts"]) == ["retain"]
