from __future__ import annotations

from itertools import islice

import pytest
import torch

from unlearning.data.datamodule import UnlearningDataModule
from unlearning.data.jsonl import JsonlDataModule
from unlearning.data.template import PromptTemplate
from unlearning.errors import ConfigError
from unlearning.types import Batch, Example


def texts(data: UnlearningDataModule, batch: Batch, role: str) -> list[str]:
    answers = batch.answers[role]
    return [
        data.tokenizer.decode(answers.targets[answers.sequence == n]).removesuffix(" </s>")
        for n in range(answers.num_sequences)
    ]


def same(first: Batch, second: Batch) -> bool:
    return (
        torch.equal(first.rows.input_ids, second.rows.input_ids)
        and first.answers.keys() == second.answers.keys()
        and all(
            torch.equal(first.answers[r].loss_index, second.answers[r].loss_index)
            and torch.equal(first.answers[r].targets, second.answers[r].targets)
            for r in first.answers
        )
    )


def first_batches(data: UnlearningDataModule, number: int) -> list[Batch]:
    data.setup()
    return [data.batch_at(n) for n in range(number)]


def test_a_batch_has_the_papers_three_parts(make_data):
    data = make_data(mismatch_per_prompt=5)
    (batch,) = first_batches(data, 1)
    counts = {role: answers.num_sequences for role, answers in batch.answers.items()}
    assert counts == {"forget": 2, "mismatch": 10, "retain": 2}


@pytest.mark.parametrize("size", [1, 3])
def test_retain_pairs_are_as_many_as_asked_for(make_data, size):
    data = make_data(batch_size=2, retain_batch_size=size)
    batches = first_batches(data, 6)
    assert [batch.answers["forget"].num_sequences for batch in batches] == [2] * 6
    assert [batch.answers["retain"].num_sequences for batch in batches] == [size] * 6
    # Packing orders them anew within a batch; none is left out between two.
    order = [data.pairs.at([n])[0][0] for n in range(6 * size)]
    for number, batch in enumerate(batches):
        expected = order[number * size : (number + 1) * size]
        assert sorted(batch.answers["retain"].examples) == sorted(expected)


def test_answers_are_those_of_their_sets(make_data, forget_examples, retain_examples):
    data = make_data()
    forget = {example.response for example in forget_examples}
    retain = {example.response for example in retain_examples}
    for batch in first_batches(data, 12):
        assert set(texts(data, batch, "forget")) <= forget
        assert set(texts(data, batch, "mismatch")) <= retain
        assert set(texts(data, batch, "retain")) <= retain
        mismatches = texts(data, batch, "mismatch")
        assert all(len({*mismatches[n : n + 2]}) == 2 for n in (0, 2))  # K different ones each


def test_every_example_is_seen_once_an_epoch(make_data, forget_examples):
    data = make_data(batch_size=1)
    batches = first_batches(data, 10)
    for epoch in (batches[:5], batches[5:]):
        seen = [number for batch in epoch for number in batch.answers["forget"].examples]
        assert sorted(seen) == list(range(5))
    assert (
        len({tuple(b.answers["forget"].examples for b in e) for e in (batches[:5], batches[5:])})
        == 2
    )
    # The retain set is 7 long and goes round in its own time, every round in another order.
    batches = first_batches(data, 14)
    rounds = [
        [b.answers["retain"].examples[0] for b in part] for part in (batches[:7], batches[7:])
    ]
    assert [sorted(part) for part in rounds] == [list(range(7))] * 2
    assert rounds[0] != rounds[1]


def test_mismatches_are_drawn_anew_every_epoch(make_data):
    data = make_data(batch_size=1)
    by_example: dict[int, set[tuple[str, ...]]] = {}
    for batch in first_batches(data, 40):
        (example,) = batch.answers["forget"].examples
        by_example.setdefault(example, set()).add(tuple(texts(data, batch, "mismatch")))
    assert all(len(draws) > 3 for draws in by_example.values())  # 8 epochs each


def test_prompts_have_mismatches_of_their_own(make_data):
    data = make_data(batch_size=1)
    epoch = first_batches(data, 5)
    draws = {tuple(batch.answers["mismatch"].examples) for batch in epoch}
    assert len(draws) > 2  # one draw for all of them would be 1


def test_mismatches_never_come_from_outside_the_training_split(
    tokenizer, tmp_path, forget_examples, retain_examples
):
    path = tmp_path / "retain.jsonl"
    lines = [f'{{"prompt": "{e.prompt}", "response": "{e.response}"}}' for e in retain_examples]
    path.write_text("\n".join(lines))
    retain = JsonlDataModule(str(path), fractions=(0.6, 0.2, 0.2))
    data = UnlearningDataModule(
        forget_examples, retain, tokenizer, mismatch_per_prompt=3, max_length=48
    )
    training = {example.response for example in retain.examples("train")}
    assert len(training) == 4
    found = {
        text
        for batch in first_batches(data, 30)
        for role in ("mismatch", "retain")
        for text in texts(data, batch, role)
    }
    assert found == training


def test_no_prompt_position_predicts_a_prompt_token(make_data):
    """The released code's answer offset is 2, whatever the prompt, so it trains on the prompt."""
    data = make_data()
    for batch in first_batches(data, 6):
        for role, answers in batch.answers.items():
            source = "forget" if role == "forget" else "retain"
            lengths = [len(data.sequences[source][n].response_ids) for n in answers.examples]
            assert torch.bincount(answers.sequence).tolist() == lengths
            if role != "mismatch":
                expected = [
                    t for n in answers.examples for t in data.sequences[source][n].response_ids
                ]
                assert answers.targets.tolist() == expected


def test_a_stream_is_a_function_of_the_seed(make_data):
    ours, again, other = (first_batches(make_data(seed=s), 6) for s in (1, 1, 2))
    assert all(same(a, b) for a, b in zip(ours, again, strict=True))
    assert not all(same(a, b) for a, b in zip(ours, other, strict=True))


def test_mismatches_depend_on_the_seed(make_data):
    """By prompt, in one epoch: their order is another with another seed, too."""
    first, second = (
        {
            batch.answers["forget"].examples: batch.answers["mismatch"].examples
            for batch in first_batches(make_data(batch_size=1, seed=seed), 5)
        }
        for seed in (1, 2)
    )
    assert first.keys() == second.keys() and len(first) == 5
    assert first != second


def test_the_retain_order_depends_on_the_seed(make_data):
    first, second = (
        [
            batch.answers["retain"].examples[0]
            for batch in first_batches(make_data(batch_size=1, seed=seed), 7)
        ]
        for seed in (1, 2)
    )
    assert sorted(first) == sorted(second) == list(range(7))
    assert first != second


def test_example_n_is_the_same_whatever_the_batch_size(make_data):
    eight, one = make_data(batch_size=8), make_data(batch_size=1)
    (big,) = first_batches(eight, 1)
    small = first_batches(one, 8)
    for role in ("forget", "mismatch", "retain"):
        together = sorted(text for batch in small for text in texts(one, batch, role))
        assert sorted(texts(eight, big, role)) == together


class Rank:
    """What a DataModule asks a Trainer about one of two ranks."""

    def __init__(self, rank: int) -> None:
        self.global_rank, self.world_size, self.accumulate_grad_batches = rank, 2, 1


def test_ranks_share_the_stream_out(make_data):
    whole = make_data(batch_size=4)
    (big,) = first_batches(whole, 1)
    parts = []
    for rank in range(2):
        data = make_data(batch_size=2)
        data.trainer = Rank(rank)
        parts += first_batches(data, 1)
        assert len(data.train_dataloader()) == 2  # 5 forget examples, 4 a step
    assert big.answers["forget"].examples and set(big.answers["forget"].examples) == {
        number for part in parts for number in part.answers["forget"].examples
    }


def test_no_rank_repeats_a_batch_of_another(make_data):
    ranks = [make_data(batch_size=1), make_data(batch_size=1)]
    for number, data in enumerate(ranks):
        data.trainer = Rank(number)
    batches = [first_batches(data, 3) for data in ranks]
    in_turn = [batch for step in zip(*batches, strict=True) for batch in step]
    whole = first_batches(make_data(batch_size=1), 6)
    assert all(same(ours, theirs) for ours, theirs in zip(in_turn, whole, strict=True))


@pytest.mark.parametrize(("batch_size", "batches"), [(1, 5), (2, 3), (5, 1), (8, 1)])
def test_an_epoch_drops_nothing(make_data, batch_size, batches):
    data = make_data(batch_size=batch_size)
    loader = data.train_dataloader()
    assert len(loader) == batches == len(list(loader))


def test_resume_by_one_integer(make_data):
    data = make_data()
    whole = first_batches(data, 9)
    for taken in range(8):
        first = make_data()
        stream = first.train_dataloader()
        for _ in range(taken // 3):
            list(stream)
        list(islice(iter(stream), taken % 3))
        resumed = make_data()
        resumed.load_state_dict(first.state_dict())
        assert same(next(iter(resumed.train_dataloader())), whole[taken])


def test_a_mismatch_answer_is_cut_to_its_new_prompt(tokenizer):
    forget = [Example("how do I cheat in the exam ?", "look")]  # 12 tokens with the template
    retain = [Example("what ?", "the sun is hot , not cold")]  # 6, and 8 of the answer
    data = UnlearningDataModule(
        forget, retain, tokenizer, mismatch_per_prompt=1, batch_size=1, max_length=14
    )
    (batch,) = first_batches(data, 1)
    assert batch.answers["mismatch"].targets.numel() == 2
    assert batch.answers["retain"].targets.numel() == 8


def test_truncated_answers_are_counted(make_data):
    data = make_data(max_length=13)
    data.setup()
    assert data.truncated["forget"] >= 1 and data.truncated["retain"] >= 1


def test_the_template_is_used(make_data):
    data = make_data(template=PromptTemplate("what {prompt} is"))
    data.setup()
    ids = data.sequences["retain"][1].prompt_ids
    assert data.tokenizer.decode(ids) == "what what is two plus three ? is"


# --- bad input -----------------------------------------------------------------------------------


def test_too_few_retain_answers(make_data):
    with pytest.raises(ConfigError, match=r"mismatch_per_prompt=8 .* has 7"):
        make_data(mismatch_per_prompt=8).setup()


@pytest.mark.parametrize("side", ["forget", "retain"])
def test_an_empty_side_is_refused(tokenizer, retain_examples, side):
    sides = {"forget": [Example("a", "b")], "retain": retain_examples, side: []}
    with pytest.raises(ConfigError, match=f"The {side} set has no training example"):
        UnlearningDataModule(**sides, tokenizer=tokenizer, mismatch_per_prompt=0).setup()


def test_the_same_text_on_both_sides_is_refused(tokenizer, forget_examples, retain_examples):
    shared = [*retain_examples, Example(forget_examples[0].prompt.upper(), "no")]
    with pytest.raises(ConfigError, match="1 forget examples are also in the retain set"):
        UnlearningDataModule(forget_examples, shared, tokenizer).setup()


def test_an_empty_answer_is_refused(tokenizer, retain_examples):
    data = UnlearningDataModule([Example("how ?", "")], retain_examples, tokenizer)
    with pytest.raises(ConfigError, match="answer without a single token"):
        data.setup()


def test_a_prompt_longer_than_the_context_is_refused(make_data):
    with pytest.raises(ConfigError, match=r"5 of 5 prompts leave no room .*max_length=8"):
        make_data(max_length=8).setup()


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"mismatch_per_prompt": -1}])
def test_impossible_sizes_are_refused(make_data, settings):
    with pytest.raises(ConfigError, match="must be at least 1 and"):
        make_data(**settings)


def test_an_unknown_layout_is_refused_before_anything_is_read(make_data):
    with pytest.raises(ConfigError, match="'ragged'"):
        make_data(layout="ragged")


def test_a_negative_seed_is_refused(make_data):
    with pytest.raises(ConfigError, match="seed=-1"):
        make_data(seed=-1)
