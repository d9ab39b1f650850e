from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from generation.test_decoding import PROMPTS, sliding
from unlearning.generation.generate import generate
from unlearning.generation.kv_cache import PreallocatedLayer, preallocated_cache


def states(number: int, tokens: int = 1, rows: int = 3) -> torch.Tensor:
    return torch.randn(rows, 2, tokens, 4, generator=torch.Generator().manual_seed(number))


def both(*updates: int) -> tuple[PreallocatedLayer, DynamicCache]:
    """A layer and Hugging Face's own after the same updates of so many tokens."""
    ours, theirs = PreallocatedLayer(8), DynamicCache()
    for number, tokens in enumerate(updates):
        keys, values = states(number, tokens), states(100 + number, tokens)
        found, expected = ours.update(keys, values), theirs.update(keys, values, 0)
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b)
    return ours, theirs


@pytest.mark.parametrize("updates", [(5, 1, 1, 1), (8,), (5, 1, 1, 1, 1, 1), (12, 1)])
def test_it_holds_what_hugging_faces_does_in_its_room_and_past_it(updates):
    ours, theirs = both(*updates)
    assert ours.get_seq_length() == theirs.get_seq_length() == sum(updates)
    assert ours.get_mask_sizes(1) == theirs.layers[0].get_mask_sizes(1)


def test_no_token_is_copied_while_there_is_room():
    layer = PreallocatedLayer(8)
    layer.update(states(0, 5), states(1, 5))
    before = layer.keys.data_ptr()
    for number in range(3):
        layer.update(states(number), states(number))
        assert layer.keys.data_ptr() == before
    layer.update(states(4), states(5))
    assert layer.keys.data_ptr() != before


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.batch_select_indices(torch.tensor([2, 0])),
        lambda layer: layer.reorder_cache(torch.tensor([1, 1, 0])),
        lambda layer: layer.batch_repeat_interleave(2),
        lambda layer: layer.crop(-2),
    ],
)
def test_rows_and_tokens_that_were_taken_out_stay_out(change):
    ours, theirs = both(4, 1)
    theirs = theirs.layers[0]
    change(ours), change(theirs)
    rows = len(theirs.keys)
    for number in range(4):
        more = states(number, rows=rows)
        for a, b in zip(ours.update(more, -more), theirs.update(more, -more), strict=True):
            assert torch.equal(a, b)


def test_emptied_it_begins_anew():
    ours, _ = both(4, 1)
    ours.reset()
    assert ours.get_seq_length() == 0
    keys, _ = ours.update(states(7, 2, rows=5), states(8, 2, rows=5))
    assert torch.equal(keys, states(7, 2, rows=5))


def test_only_for_models_that_keep_every_tokens_keys_and_values(make_model, tokenizer):
    cache = preallocated_cache(make_model("llama"), 9)
    assert cache is not None and [type(layer) for layer in cache.layers] == [PreallocatedLayer] * 2
    assert preallocated_cache(sliding(96), 9) is None
    model = make_model("opt")
    model.generation_config.cache_implementation = "static"
    assert preallocated_cache(model, 9) is None


@pytest.mark.parametrize("architecture", ["opt", "llama", "gpt2", "gpt_neox"])
def test_texts_are_those_of_hugging_faces_cache(make_model, tokenizer, monkeypatch, architecture):
    model = make_model(architecture, len(tokenizer)).eval()
    used = []
    update = PreallocatedLayer.update
    monkeypatch.setattr(
        PreallocatedLayer, "update", lambda s, *a, **k: used.append(1) or update(s, *a, **k)
    )
    found = generate(model, tokenizer, PROMPTS, 12, 5)
    assert used
    monkeypatch.setattr("unlearning.generation.decoding.preallocated_cache", lambda *_: None)
    assert generate(model, tokenizer, PROMPTS, 12, 5) == found
