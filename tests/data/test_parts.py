"""Every forward of a step has rows of its own answers alone, and the batch has every answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearning.data.layout import Answer, Tree, make_batch
from unlearning.data.parts import ALL, RETAIN_APART, parts_of
from unlearning.types import Batch, Rows

OF_A_PROMPT = ("forget", "alternate", "mismatch")
roles = st.sampled_from([*OF_A_PROMPT, "retain"])
forwards = st.lists(st.sets(roles, min_size=1), max_size=4)
ids = st.lists(st.integers(2, 99), min_size=1, max_size=6).map(tuple)
forget_trees = st.tuples(ids, st.lists(st.tuples(st.sampled_from(OF_A_PROMPT), ids), min_size=1))
drawn = st.tuples(
    st.lists(forget_trees, max_size=4), st.lists(st.tuples(ids, ids), max_size=3)
).filter(any)


def trees_of(both) -> list[Tree]:
    """Every answer with a number of its own."""
    prompts, retain = both
    groups = [(prompt, answers[:5]) for prompt, answers in prompts]
    groups += [(prompt, [("retain", answer)]) for prompt, answer in retain]
    return [
        Tree(p, tuple(Answer(role, 10 * n + k, a) for k, (role, a) in enumerate(answers)))
        for n, (p, answers) in enumerate(groups)
    ]


def seen_by(batch: Batch) -> dict[tuple[str, int], tuple]:
    """Of each answer by role and number: its prompt's number, the tokens before its last, as it
    sees them, their positions, and its own tokens."""
    rows, found = batch.rows, {}
    width = rows.input_ids.shape[1]
    for role, answers in batch.answers.items():
        for number, example in enumerate(answers.examples):
            mine = answers.sequence == number
            row, last = divmod(int(answers.loss_index[mine][-1]), width)
            mask = rows.attention_mask
            seen = mask[row, 0, last] if mask.ndim == 4 else mask[row].clone()
            seen[last + 1 :] = False
            before = tuple(rows.input_ids[row, seen].tolist())
            positions = rows.position_ids[row, seen].tolist()
            target = tuple(answers.targets[mine].tolist())
            found[role, example] = (int(answers.prompt[number]), before, positions, target)
    return found


@pytest.mark.parametrize("layout", ["tree", "padded"])
@given(drawn, forwards)
def test_no_answer_is_lost_and_each_sees_what_it_saw(layout, drawn, forwards):
    trees = trees_of(drawn)
    batch = make_batch(trees, layout, pad_token_id=1, forwards=forwards)
    expected = {}
    for n, tree in enumerate(trees):
        for answer in tree.answers:
            before = tree.prompt_ids + answer.ids[:-1]
            expected[answer.role, answer.example] = (n, before, [*range(len(before))], answer.ids)
    assert seen_by(batch) == expected
    for each in [*forwards, {"forget"}, {"retain"}]:
        theirs = {key: value for key, value in expected.items() if key[0] in each}
        part = batch.only(each)
        assert seen_by(part) == theirs
        assert seen_by(part.only(each)) == theirs  # once more changes nothing
        assert part.only(each).rows.input_ids.shape == part.rows.input_ids.shape
        for role, answers in part.answers.items():
            held = set((answers.loss_index // part.rows.input_ids.shape[1]).tolist())
            assert answers.row_range == (min(held), max(held) + 1), role


def fed(trees: list[Tree], which: set[str]) -> int:
    """Positions of these answers and of the prompts that they need."""
    kept = [tree.only(a.role in which for a in tree.answers) for tree in trees]
    return sum(tree.length for tree in kept if tree.answers)


def not_pads(rows: Rows) -> int:
    """Positions that hold a token of the trees below, none of which is 1."""
    return int((rows.input_ids != 1).sum())


@given(drawn)
def test_a_forward_runs_no_branch_that_it_does_not_read(drawn):
    """SAM's forwards; and a step that reads alternate and retain answers alone. In padded rows,
    where a pad can be told from a token, and trees have one branch each."""
    trees = trees_of(drawn)
    singles = [tree.only(a is b for b in tree.answers) for tree in trees for a in tree.answers]
    for forwards in ([{"forget"}, {"mismatch", "retain"}], [{"alternate", "retain"}]):
        batch = make_batch(trees, "padded", pad_token_id=1, forwards=forwards)
        for each in forwards:
            if any(a.role in each for tree in trees for a in tree.answers):
                assert not_pads(batch.only(each).rows) == fed(singles, each)


LONG = Tree(
    (5, 6, 7),
    (
        Answer("forget", 0, tuple(range(20, 60))),
        Answer("alternate", 1, (8, 9, 2)),
        Answer("mismatch", 2, (10, 11, 12, 2)),
    ),
)
KEPT = Tree((13, 14), (Answer("retain", 3, (15, 16, 2)),))


def test_unread_answers_do_not_widen_the_rows_that_are_run():
    """By hand: trees of 3 + 2 and 2 + 2 positions in one row, the forget answer of 39 not with
    them."""
    batch = make_batch([LONG, KEPT], "tree", pad_token_id=1, forwards=[{"alternate", "retain"}])
    part = batch.only({"alternate", "retain"})
    assert part.rows.input_ids.tolist() == [[5, 6, 7, 8, 9, 13, 14, 15, 16]]
    assert part.rows.position_ids.tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 3]]
    assert part.rows.attention_mask.shape == (1, 1, 9, 9)
    assert part.answers["alternate"].loss_index.tolist() == [2, 3, 4]
    assert part.answers["retain"].loss_index.tolist() == [6, 7, 8]
    assert batch.rows.input_ids.shape == (2, 3 + 39 + 3)
    assert batch.widths == (9, 45)
    forget = batch.only({"forget"})
    assert forget.only({"forget"}).rows.input_ids.shape == forget.rows.input_ids.shape == (1, 45)
    assert batch.answers.keys() == {"forget", "alternate", "mismatch", "retain"}


def test_nor_do_they_choose_the_length_of_those_rows():
    """Two rows of 2 + 2 positions cost less than one of both."""
    batch = make_batch([LONG, KEPT, KEPT], "tree", pad_token_id=1, forwards=[{"retain"}])
    assert batch.only({"retain"}).rows.input_ids.shape == (2, 4)


def test_perturbed_and_other_terms_have_trees_of_their_own():
    batch = make_batch([LONG, KEPT], "tree", 1, forwards=[{"forget"}, {"mismatch", "retain"}])
    forget, others = batch.only({"forget"}), batch.only({"mismatch", "retain"})
    assert forget.rows.input_ids[:, :6].tolist() == [[5, 6, 7, 20, 21, 22]]
    assert others.rows.input_ids[:, :6].tolist() == [[5, 6, 7, 10, 11, 12], [13, 14, 15, 16, 5, 5]]
    assert batch.answers["alternate"].row_range == (3, 4)  # of no term: behind all others


@pytest.mark.parametrize(
    ("forwards", "parts"),
    [
        ([ALL], [{*ALL}]),
        (RETAIN_APART, [ALL - {"retain"}, {"retain"}]),
        # Read with a third by turns, two roles share a prompt.
        ([{"forget", "alternate"}, {"mismatch", "alternate"}], [{*OF_A_PROMPT}]),
        # Two parts are read with retain answers, which are neither's.
        (
            [{"forget", "retain"}, {"mismatch", "retain"}],
            [{"forget"}, {"mismatch"}, {"retain"}],
        ),
        # What is read with retain answers is next to them.
        ([{"forget", "retain"}, {"mismatch"}], [{"mismatch"}, {"forget"}, {"retain"}]),
        ([{"retain"}], [{"retain"}]),
        ([{"forget"}, set()], [{"forget"}]),
        ([ALL, set()], [{*ALL}]),
        ([], []),
    ],
)
def test_parts_by_hand(forwards, parts):
    assert parts_of(forwards) == parts
