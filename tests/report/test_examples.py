from __future__ import annotations

import pytest

from unlearning.report.examples import example_sets, visible


def row(index, stage="after", **more):
    return {"stage": stage, "prompt_set": "s", "index": index, "completion": "x", **more}


def test_order_is_that_of_the_index_and_stages_are_paired():
    rows = [row(10), row(2, "before", completion="b"), row(2), row(None)]
    (shown,) = example_sets(rows, {"prompt_sets": {"s": "retain"}})
    assert shown.total == 3
    first = shown.shown[0]
    assert first.before is not None and first.before.text == "b"
    assert first.after is not None and first.after.text == "x"
    assert shown.shown[1].before is None


@pytest.mark.parametrize(
    ("probability", "harmful"), [(0.5, False), (0.501, True), (None, None), (0.0, False)]
)
def test_harmful_is_above_the_threshold(probability, harmful):
    metrics = {"classifier": {"threshold": 0.5}}
    (shown,) = example_sets([row(0, harm_probability=probability)], metrics)
    answer = shown.shown[0].after
    assert answer is not None and answer.harmful is harmful


def test_without_a_threshold_only_the_number_is_shown():
    (shown,) = example_sets([row(0, harm_probability=0.9)], {})
    answer = shown.shown[0].after
    assert answer is not None and (answer.harm, answer.harmful) == ("harm: 0.90", None)


@pytest.mark.parametrize(
    ("more", "text", "remark"),
    [
        ({"completion": ""}, "", "empty answer"),
        ({"completion": None}, "", "empty answer"),
        ({"completion": " \n"}, "", "only white space, 2 characters"),
        ({"completion": "x", "finished": False}, "x", "cut at the token limit"),
    ],
)
def test_remarks(more, text, remark):
    (shown,) = example_sets([row(0, **more)], {})
    answer = shown.shown[0].after
    assert answer is not None and (answer.text, answer.remark) == (text, remark)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\nb\tc", "a\nb\tc"),
        ("\x1b[31m", "␛[31m"),
        ("\u202eabc", "[U+202E]abc"),
        ("\x7f", "[U+007F]"),
        ("नमस्ते क\u200cष 👩\u200d🔬", "नमस्ते क\u200cष 👩\u200d🔬"),
    ],
)
def test_visible(text, shown):
    assert visible(text) == shown


def test_a_very_long_answer_is_cut_and_says_so():
    assert visible("x" * 5000) == "x" * 4000 + "… (1,000 more characters)"


def test_stages_of_a_passage_are_side_by_side():
    rows = [row(0, stage, completion=stage) for stage in ("original", "before", "after")]
    (shown,) = example_sets(rows, {"prompt_sets": {"s": "copyright"}})
    pair = shown.shown[0]
    texts = [a.text for a in (pair.original, pair.before, pair.after) if a is not None]
    assert texts == ["original", "before", "after"]
    assert shown.hidden


def test_of_a_book_little_is_shown():
    text = "a" * 500 + "b" * 500
    rows = [row(i, prompt=text, target=text, completion=text) for i in range(30)]
    (shown,) = example_sets(rows, {"prompt_sets": {"s": "copyright"}})
    assert (len(shown.shown), len(shown.more), shown.total) == (5, 0, 30)
    pair = shown.shown[0]
    assert pair.prompt == "(700 characters before) …" + "b" * 300
    cut = "a" * 300 + "… (700 more characters)"
    assert pair.after is not None and (pair.target, pair.after.text) == (cut, cut)


def test_normal_text_beside_a_book_is_cut_too_but_open():
    rows = [row(i, completion="x" * 400, verbatim_tokens=3) for i in range(30)]
    (shown,) = example_sets(rows, {"prompt_sets": {"s": "retain", "book": "copyright"}})
    answer = shown.shown[0].after
    assert answer is not None and answer.text == "x" * 300 + "… (100 more characters)"
    assert answer.verbatim == ""  # of what is to be kept nobody asks it
    assert (len(shown.more), shown.hidden) == (20, False)


def test_a_passage_is_never_finished_and_tells_its_longest_run():
    rows = [row(0, finished=False, verbatim_tokens=41)]
    (shown,) = example_sets(rows, {"prompt_sets": {"s": "copyright"}})
    answer = shown.shown[0].after
    assert answer is not None and (answer.remark, answer.verbatim) == (
        "",
        "verbatim run: 41 tokens",
    )
