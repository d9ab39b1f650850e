from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unlearning.data.layout import Answer, Tree, make_batch, pack, padded_batch, tree_mask
from unlearning.head.token_losses import token_losses
from unlearning.models.decoder import decode, output_head
from unlearning.types import Batch, Role, TokenizedExample

TREES = [
    Tree((10, 11, 12), (Answer("forget", 4, (20, 21)), Answer("mismatch", 7, (30, 31, 32)))),
    Tree((40, 41), (Answer("retain", 5, (50, 51, 52)),)),
    Tree((60,), (Answer("forget", 1, (70,)), Answer("mismatch", 2, (80, 81)))),
]


def one_row(length: int) -> Tree:
    return Tree(tuple(range(length)), (Answer("forget", 0, (1,)),))


def nll_by_role(model, batch: Batch) -> dict[Role, Tensor]:
    hidden = decode(model.eval(), batch.rows).flatten(0, 1)
    return {
        role: token_losses(hidden[answers.loss_index], output_head(model), answers.targets)[0]
        for role, answers in batch.answers.items()
    }


def test_tree_row_by_hand():
    batch = make_batch(TREES[:1], "tree", pad_token_id=1)
    assert batch.rows.input_ids.tolist() == [[10, 11, 12, 20, 30, 31]]
    assert batch.rows.position_ids.tolist() == [[0, 1, 2, 3, 3, 4]]
    visible = [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 0, 1, 0],
        [1, 1, 1, 0, 1, 1],
    ]
    assert batch.rows.attention_mask.int().tolist() == [[visible]]
    forget, mismatch = batch.answers["forget"], batch.answers["mismatch"]
    # The first answer token counts: it is predicted from the prompt's last position.
    assert forget.loss_index.tolist() == [2, 3] and forget.targets.tolist() == [20, 21]
    assert mismatch.loss_index.tolist() == [2, 4, 5] and mismatch.targets.tolist() == [30, 31, 32]
    assert (forget.examples, mismatch.examples) == ((4,), (7,))


def test_padded_rows_by_hand():
    batch = make_batch(TREES[:2], "padded", pad_token_id=1)
    assert batch.rows.input_ids.tolist() == [
        [10, 11, 12, 20, 1],
        [10, 11, 12, 30, 31],
        [40, 41, 50, 51, 1],
    ]
    assert batch.rows.attention_mask.int().sum(1).tolist() == [4, 5, 4]
    assert batch.answers["mismatch"].loss_index.tolist() == [7, 8, 9]
    assert batch.answers["retain"].loss_index.tolist() == [11, 12, 13]
    assert batch.answers["retain"].targets.tolist() == [50, 51, 52]
    assert batch.answers["mismatch"].row_range == (1, 2)
    assert batch.answers["retain"].row_range == (2, 3)


def test_retain_answers_have_rows_of_their_own_at_the_end():
    batch = make_batch(TREES, "tree", pad_token_id=1)
    row, end = batch.answers["retain"].row_range
    assert end == len(batch.rows.input_ids)
    first = row * batch.rows.input_ids.shape[1]
    assert (batch.answers["retain"].loss_index >= first).all()
    assert (batch.answers["forget"].loss_index < first).all()
    assert (batch.answers["mismatch"].loss_index < first).all()


@pytest.mark.parametrize("layout", ["tree", "padded"])
def test_no_prompt_token_is_a_target_and_no_position_is_wrong(layout):
    batch = make_batch(TREES, layout, pad_token_id=1)
    prompts = {token for tree in TREES for token in tree.prompt_ids}
    ids = batch.rows.input_ids.flatten()
    for role, answers in batch.answers.items():
        expected = [a.ids for tree in TREES for a in tree.answers if a.role == role]
        assert not prompts & set(answers.targets.tolist())
        for number, example in enumerate(answers.examples):
            mine = answers.sequence == number
            (answer,) = [
                a for tree in TREES for a in tree.answers if (a.role, a.example) == (role, example)
            ]
            assert answer.ids in expected
            assert tuple(answers.targets[mine].tolist()) == answer.ids
            # Every target is predicted from the token before it.
            (tree,) = [tree for tree in TREES if answer in tree.answers]
            before = (tree.prompt_ids[-1], *answer.ids[:-1])
            assert tuple(ids[answers.loss_index[mine]].tolist()) == before


@pytest.mark.parametrize("architecture", ["opt", "llama", "gpt2", "gpt_neox"])
def test_packed_trees_do_not_leak(make_model, architecture):
    """Other tokens in one tree, and in one branch, leave every other answer's loss bit for bit."""
    model = make_model(architecture)
    small = Tree((60, 61), (Answer("forget", 1, (70, 71)), Answer("mismatch", 2, (80, 81, 82))))
    large = Tree(tuple(range(5, 25)), (Answer("forget", 0, (33, 34, 35)),))
    changed = Tree((90, 91), (Answer("forget", 1, (92, 93)), Answer("mismatch", 2, (94, 95, 9))))
    branch = Tree(small.prompt_ids, (Answer("forget", 1, (92, 93)), small.answers[1]))
    batches = {
        name: make_batch([large, small, other], "tree", pad_token_id=1)
        for name, other in {"as is": small, "changed": changed, "branch": branch}.items()
    }
    assert batches["as is"].rows.input_ids.shape[0] == 1  # all share a row
    with torch.no_grad():
        losses = {name: nll_by_role(model, batch) for name, batch in batches.items()}
    assert torch.equal(losses["as is"]["forget"][:5], losses["changed"]["forget"][:5])
    assert torch.equal(losses["as is"]["mismatch"][:3], losses["changed"]["mismatch"][:3])
    assert not torch.equal(losses["as is"]["mismatch"], losses["changed"]["mismatch"])
    assert torch.equal(losses["as is"]["mismatch"], losses["branch"]["mismatch"])
    assert not torch.equal(losses["as is"]["forget"], losses["branch"]["forget"])


@pytest.mark.parametrize("layout", ["tree", "padded"])
def test_padding_changes_nothing(model, layout):
    """Neither more padding nor another padding token; loss bit for bit."""
    batch = make_batch(TREES, layout, pad_token_id=1)
    other = make_batch(TREES, layout, pad_token_id=77)
    wide = Tree(tuple(range(30, 60)), (Answer("forget", 9, (3, 4)),))
    wider = make_batch([*TREES, wide], layout, pad_token_id=1)
    with torch.no_grad():
        losses = [nll_by_role(model, b) for b in (batch, other, wider)]
    for role in batch.answers:
        assert torch.equal(losses[0][role], losses[1][role])
        theirs = {}
        for number, example in enumerate(wider.answers[role].examples):
            theirs[example] = losses[2][role][wider.answers[role].sequence == number]
        for number, example in enumerate(batch.answers[role].examples):
            mine = losses[0][role][batch.answers[role].sequence == number]
            torch.testing.assert_close(mine, theirs[example], atol=1e-5, rtol=1e-5)


def test_mask_has_no_empty_row():
    batch = make_batch(TREES, "tree", pad_token_id=1)
    assert batch.rows.attention_mask.any(dim=-1).all()
    assert (tree_mask(torch.zeros(1, 3).long(), torch.zeros(1, 3).long()).any(-1)).all()


@given(st.lists(st.integers(1, 20), min_size=1, max_size=30), st.integers(20, 40))
def test_pack_keeps_every_tree_once_and_within_capacity(lengths, capacity):
    trees = [one_row(length) for length in lengths]
    rows = pack(trees, capacity)
    assert sorted(tree.length for row in rows for tree in row) == sorted(lengths)
    assert all(sum(tree.length for tree in row) <= capacity for row in rows)
    # First fit never leaves two rows that are both at most half full.
    fills = [sum(tree.length for tree in row) for row in rows]
    assert sum(fill * 2 <= capacity for fill in fills) <= 1


def test_padded_batch_of_plain_sequences():
    items = [(3, TokenizedExample((5, 6), (7, 8))), (0, TokenizedExample((9,), (10,)))]
    batch = padded_batch([("retain", items)], pad_token_id=1)
    assert batch.rows.input_ids.tolist() == [[5, 6, 7], [9, 1, 1]]
    assert batch.answers["retain"].examples == (3, 0)
    assert batch.answers["retain"].row_range == (0, 2)


def test_moving_a_batch_moves_all_of_it():
    batch = make_batch(TREES, "tree", pad_token_id=1, index=3).to("meta")
    assert batch.rows.attention_mask.device.type == "meta"
    assert batch.answers["retain"].targets.device.type == "meta"
    assert (batch.index, batch.answers["retain"].examples) == (3, (5,))


@pytest.mark.parametrize(
    "tree",
    [
        Tree((), (Answer("forget", 0, (1,)),)),
        Tree((1,), (Answer("forget", 0, ()),)),
        Tree((1,), (Answer("forget", 0, (1,)), Answer("mismatch", 0, ()))),
    ],
)
def test_empty_prompts_and_answers_are_refused(tree):
    with pytest.raises(ValueError, match="at least one token"):
        make_batch([tree], "tree", pad_token_id=1)


def test_an_unknown_layout_is_refused():
    with pytest.raises(ValueError, match=r"'ragged'.*'tree' or 'padded'"):
        make_batch(TREES, "ragged", pad_token_id=1)
