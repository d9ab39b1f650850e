"""Batches for fine-tuning: each example once an epoch, whatever the packing, ranks or resume."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from naive import gradients, relative_error, token_nlls

from unlearning.data.examples import ExampleDataModule
from unlearning.data.finetuning import FinetuningDataModule
from unlearning.data.template import PromptTemplate
from unlearning.errors import ConfigError
from unlearning.finetune import CausalLMModule
from unlearning.models.decoder import decode
from unlearning.models.load import disable_dropout
from unlearning.types import Example, TokenizedExample


def windows_of(*lengths: int) -> list[TokenizedExample]:
    """Each begins with the start token and a number of its own."""
    return [
        TokenizedExample(
            (0,), (4 + number, *((7 * number + 3 * n) % 80 + 4 for n in range(1, length)))
        )
        for number, length in enumerate(lengths)
    ]


LENGTHS = (20, 20, 20, 7, 20, 5, 6, 20, 20, 3)


@pytest.fixture
def data_of(tokenizer):
    def build(windows, **settings) -> FinetuningDataModule:
        usual = {"context_length": 32, "batch_size": 4, "seed": 0}
        data = FinetuningDataModule(windows, tokenizer, **{**usual, **settings})
        return data

    return build


def on(data, rank=0, world=1, accumulated=1):
    """The data module as a rank of a Trainer sees it."""
    data.trainer = SimpleNamespace(
        global_rank=rank, world_size=world, accumulate_grad_batches=accumulated
    )
    data.setup()
    return data


def seen(data, epoch=0) -> list[list[int]]:
    """The windows of every batch of an epoch."""
    count = data.batches_per_epoch()
    batches = [data.batch_at(epoch * count + n) for n in range(count)]
    return [list(batch.answers["train"].examples) for batch in batches]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 7, 10, 16])
def test_every_window_comes_once_an_epoch_in_another_order(data_of, batch_size):
    data = on(data_of(windows_of(*LENGTHS), batch_size=batch_size))
    epochs = [[n for batch in seen(data, epoch) for n in batch] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    if batch_size < 10:  # within a batch, long windows stand first
        assert len({tuple(map(tuple, seen(data, epoch))) for epoch in range(3)}) == 3
    sizes = [len(batch) for batch in seen(data)]
    assert max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-10 // batch_size)


def test_the_order_is_a_function_of_the_seed(data_of):
    one, two, other = (on(data_of(windows_of(*LENGTHS), seed=seed)) for seed in (0, 0, 1))
    assert seen(one) == seen(two) != seen(other)


@pytest.mark.parametrize(("batch_size", "world", "accumulated"), [(2, 2, 1), (1, 2, 2), (1, 1, 4)])
def test_ranks_and_accumulation_see_the_steps_of_one_big_batch(
    data_of, batch_size, world, accumulated
):
    windows = windows_of(*LENGTHS)
    whole = [sorted(step) for step in seen(on(data_of(windows, batch_size=4)))]
    assert whole and len(whole) == 3
    ranks = [
        seen(on(data_of(windows, batch_size=batch_size), rank, world, accumulated))
        for rank in range(world)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    for number, step in enumerate(whole):
        parts = [
            batch
            for batches in ranks
            for batch in batches[number * accumulated : (number + 1) * accumulated]
        ]
        assert all(parts)
        found = sorted(n for part in parts for n in part)
        assert set(found) >= set(step)
        if len(step) >= world * accumulated:
            assert found == step
        else:  # more batches than windows: some come twice, none is empty
            assert len(found) == world * accumulated


def test_fewer_windows_than_batches_leave_none_empty(data_of):
    ranks = [
        seen(on(data_of(windows_of(5, 6), batch_size=3), rank, world=2, accumulated=4))
        for rank in (0, 1)
    ]
    assert [[len(batch) for batch in batches] for batches in ranks] == [[1] * 4] * 2
    assert {n for batches in ranks for batch in batches for n in batch} == {0, 1}


@pytest.mark.parametrize("taken", range(8))
def test_it_resumes_at_any_batch(data_of, taken):
    def stream(**state):
        data = data_of(windows_of(*LENGTHS))
        if state:
            data.load_state_dict(state)
        return data, data.train_dataloader()

    _, batches = stream()
    numbers = [batch.answers["train"].examples for _ in range(3) for batch in batches]
    first, batches = stream()
    for _ in range(taken // 3):
        list(batches)
    iterator = iter(batches)
    for _ in range(taken % 3):
        next(iterator)
    resumed, batches = stream(**first.state_dict())
    assert first.state_dict() == {"next_batch": taken, "ranks": 1} == resumed.state_dict()
    batch = next(iter(batches))
    assert batch.answers["train"].examples == numbers[taken] and batch.index == taken


# --- rows ----------------------------------------------------------------------------------------


def test_short_windows_share_a_row_and_full_ones_need_no_mask(data_of):
    data = on(data_of(windows_of(20, 7, 5, 6), batch_size=4))
    rows = data.batch_at(0).rows
    assert rows.input_ids.shape == (1, 38)
    assert rows.attention_mask.shape == (1, 1, 38, 38)
    (positions,) = data.batch_at(0).rows.position_ids.tolist()
    assert positions == [*range(20), *range(7), *range(6), *range(5)]
    mask = rows.attention_mask[0, 0]
    assert not mask[27:33, :27].any()
    assert mask[27:33, 27:33].equal(torch.ones(6, 6).tril().bool())
    full = on(data_of(windows_of(20, 20), batch_size=2)).batch_at(0)
    assert full.rows.attention_mask.shape == (2, 20)
    padded = on(data_of(windows_of(20, 7, 5, 6), batch_size=4, packing=False)).batch_at(0)
    assert padded.rows.input_ids.shape == (4, 20) and padded.rows.attention_mask.dim() == 2


@pytest.mark.parametrize("architecture", ["opt", "llama", "gpt2", "gpt_neox"])
def test_packed_or_padded_the_loss_is_the_mean_over_all_tokens(make_model, data_of, architecture):
    model = make_model(architecture)
    disable_dropout(model)
    module = CausalLMModule(model)
    windows = windows_of(20, 7, 5, 6)
    pairs = [(window.prompt_ids, window.response_ids) for window in windows]
    expected = torch.cat([token_nlls(model, pair) for pair in pairs]).mean()
    wanted = gradients(expected, model)
    for packing in (True, False):
        batch = on(data_of(windows, packing=packing)).batch_at(0)
        loss = module._token_nll(batch).mean()
        torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
        assert relative_error(gradients(loss, model), wanted) < 1e-4


def test_one_padded_window_has_the_loss_that_transformers_computes(model, data_of):
    """Its own loss of labels, with padding left out by the label -100."""
    module = CausalLMModule(model.eval())
    model.eval()
    (window,) = windows = windows_of(9)
    ids = torch.tensor([[*window.prompt_ids, *window.response_ids, 1, 1, 1]])
    labels = torch.where(torch.arange(13) < 10, ids, -100)
    mask = (torch.arange(13) < 10)[None].long()
    theirs = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    batch = on(data_of(windows)).batch_at(0)
    torch.testing.assert_close(module._token_nll(batch).mean(), theirs)
    assert decode(model, batch.rows).shape == (1, 9, 32)  # the last token predicts nothing


# --- pairs ---------------------------------------------------------------------------------------


def written_out(tokenizer, example: Example) -> tuple[list[int], list[int]]:
    """Prompt and answer of the default template, by hand."""
    prompt = tokenizer(f"### Question: {example.prompt}\n### Answer:")["input_ids"]
    return prompt, [*tokenizer(f" {example.response}")["input_ids"], tokenizer.eos_token_id]


@pytest.mark.parametrize("packing", [True, False])
def test_the_loss_of_pairs_is_on_their_answers_and_end_tokens(
    model, data_of, tokenizer, forget_examples, packing
):
    disable_dropout(model)
    module = CausalLMModule(model)
    data = on(data_of(forget_examples[:4], packing=packing))
    pairs = [written_out(tokenizer, example) for example in forget_examples[:4]]
    expected = torch.cat([token_nlls(model, pair) for pair in pairs]).mean()
    batch = data.batch_at(0)
    loss = module._token_nll(batch).mean()
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    assert relative_error(gradients(loss, model), gradients(expected, model)) < 1e-4
    assert len(batch.answers["train"].targets) == sum(len(answer) for _, answer in pairs)


def test_pairs_of_a_list_and_of_a_data_set_are_the_same(data_of, tokenizer, forget_examples):
    class Pairs(ExampleDataModule):
        def read(self):
            yield from forget_examples

    whole = Pairs(fractions=(0.6, 0.2, 0.2), template=PromptTemplate("{prompt}", ""))
    data = on(data_of(whole))
    listed = on(data_of(list(whole.examples("train")), template=whole.template))
    assert len(data.examples) == 3 and list(data.examples) == list(listed.examples)
    chosen = on(data_of(whole, template=PromptTemplate()))
    expected = [written_out(tokenizer, example) for example in whole.examples("train")]
    assert [(list(e.prompt_ids), list(e.response_ids)) for e in chosen.examples] == expected


def test_a_pair_loses_the_end_of_its_answer_and_is_counted(data_of, tokenizer, forget_examples):
    prompt, answer = written_out(tokenizer, forget_examples[0])
    length = len(prompt) + len(answer) - 2
    data = on(data_of(forget_examples[:2], context_length=length))
    assert data.examples[0].response_ids == tuple(answer[:-2]) and data.truncated == 1


# --- sources and bad input -----------------------------------------------------------------------


class Book:
    def __init__(self) -> None:
        self.asked = []

    def windows(self, tokenizer, context_length, split="train"):
        self.asked.append((tokenizer, context_length, split))
        return windows_of(5, 6)


def test_a_book_is_cut_once(data_of, tokenizer):
    book = Book()
    data = data_of(book, context_length=7)
    data.setup()
    data.setup("fit")
    assert book.asked == [(tokenizer, 7, "train")] and list(data.examples) == windows_of(5, 6)


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ([], "no example to fine-tune on"),
        (windows_of(5, 32), "Example 1 has 33 tokens, above context_length=32"),
        ([TokenizedExample((0,), ())], "Example 0 lacks its prompt"),
        ([TokenizedExample((), (5, 6))], "Example 0 lacks its prompt"),
    ],
)
def test_windows_that_cannot_be_trained_on_are_refused(data_of, windows, message):
    with pytest.raises(ConfigError, match=message):
        data_of(windows).setup()


@pytest.mark.parametrize(
    "settings", [{"context_length": 1}, {"batch_size": 0}, {"seed": -1}], ids=str
)
def test_settings_are_checked(data_of, settings):
    (name,) = settings
    with pytest.raises(ConfigError, match=f"{name}={settings[name]}"):
        data_of(windows_of(5), **settings)
