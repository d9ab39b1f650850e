from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
import torch
from transformers import DynamicCache, MistralConfig, MistralForCausalLM

from unlearning.generation import decoding
from unlearning.generation.generate import generate
from unlearning.generation.stopping import Ended, StopRule

WORDS = ["what is the", "how", "where does the sun", "a cat says meow", "dog", "sky is blue ,"]
PROMPTS = [f"{a} {b}" for a in WORDS for b in ("capital", "old old cold")] + WORDS[:4]
END, TOKENS = 2, 16
RULE = StopRule((END,), (), None)  # type: ignore[arg-type]  # no text


def ending_now_and_then(model):
    """The model, with a taste for the end token after every token that five divides."""

    def hook(_, arguments, output):
        said = arguments["input_ids"]
        last = said[:, -output.logits.shape[1] :] % 5 == 0
        output.logits[..., END] = torch.where(last, 100.0, -100.0)

    model.register_forward_hook(lambda m, _, k, o: hook(m, k, o), with_kwargs=True)
    return model.eval()


@pytest.fixture
def calls(monkeypatch):
    """Rows of each batch or part of one, as they are handed to Hugging Face."""

    def count(model) -> list[int]:
        rows: list[int] = []
        original = model.generate

        def counted(**arguments):
            rows.append(len(arguments["input_ids"]))
            return original(**arguments)

        monkeypatch.setattr(model, "generate", counted)
        return rows

    return count


def sliding(vocabulary: int):
    torch.manual_seed(0)
    return MistralForCausalLM(
        MistralConfig(
            vocab_size=vocabulary, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, sliding_window=6, initializer_range=0.4,
            max_position_embeddings=128, pad_token_id=1, bos_token_id=0, eos_token_id=END,
        )
    )  # fmt: skip


@pytest.mark.parametrize("architecture", ["opt", "llama", "gpt2", "gpt_neox", "sliding"])
def test_answers_that_end_early_leave_the_others_as_they_are(
    make_model, tokenizer, calls, architecture
):
    vocabulary = len(tokenizer)
    made = (
        sliding(vocabulary) if architecture == "sliding" else make_model(architecture, vocabulary)
    )
    model = ending_now_and_then(made)
    alone = generate(model, tokenizer, PROMPTS, TOKENS, 1)
    rows = calls(model)
    told: list[int] = []
    together = generate(model, tokenizer, PROMPTS, TOKENS, len(PROMPTS), on_answered=told.append)
    assert together == alone
    assert len(Counter(c.num_tokens for c in alone)) > 1 and any(c.finished for c in alone)
    assert len(rows) > 1 and rows == sorted(rows, reverse=True) and rows[0] == len(PROMPTS)
    assert told == [*(a - b for a, b in pairwise(rows)), rows[-1]]  # as they end, each once


def test_what_cannot_be_taken_apart_is_read_again(make_model, tokenizer, calls, monkeypatch):
    model = ending_now_and_then(make_model("opt", len(tokenizer)))
    expected = generate(model, tokenizer, PROMPTS, TOKENS)
    monkeypatch.setattr(decoding, "_of_rows", lambda cache, rows: None)
    rows = calls(model)
    assert generate(model, tokenizer, PROMPTS, TOKENS) == expected
    assert len(rows) == 2 and rows[1] < rows[0]


@pytest.mark.parametrize("where", ["options", "device"])
def test_rows_are_kept_where_dropping_them_is_not_known_to_be_good(
    make_model, tokenizer, calls, monkeypatch, where
):
    model = ending_now_and_then(make_model("opt", len(tokenizer)))
    expected = generate(model, tokenizer, PROMPTS, TOKENS)
    rows = calls(model)
    if where == "device":
        monkeypatch.setattr(decoding, "DROPS_ROWS", ())
    options = {"repetition_penalty": 1.0} if where == "options" else {}
    assert generate(model, tokenizer, PROMPTS, TOKENS, len(PROMPTS), **options) == expected
    assert rows == [len(PROMPTS)]


def test_a_batch_stops_when_a_quarter_has_ended_by_hand():
    """Of 20 rows five; which have ended is remembered."""
    ids = torch.full((20, 3), 9)
    ended = Ended(RULE, 20, width=0)
    ids[:4, -1] = END
    assert not ended(ids, None).any()
    ids[:4, -1], ids[4, -1] = 1, END
    assert ended(ids, None).tolist() == [True] * 20
    assert ended.rows_B.tolist() == [True] * 5 + [False] * 15


def test_of_a_few_rows_four_have_to_end():
    ids = torch.tensor([[END], [END], [END], [9], [9]])
    assert not Ended(RULE, 5, 0)(ids, None).any()
    assert Ended(RULE, 3, 0)(ids[:3], None).all()  # of three all
    ids[3] = END
    assert Ended(RULE, 5, 0)(ids, None).all()


def test_only_keys_and_values_are_taken_apart():
    assert decoding._of_rows(None, torch.tensor([0])) is None
    cache = DynamicCache()
    keys = torch.arange(3.0)[:, None, None, None].expand(3, 1, 2, 4)
    cache.update(keys, keys, 0)
    kept = decoding._of_rows(cache, torch.tensor([0, 2]))
    assert kept is not None and kept.layers[0].keys[:, 0, 0, 0].tolist() == [0, 2]
