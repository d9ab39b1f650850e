"""Tree rows beyond a model's sliding window or chunk."""

from __future__ import annotations

import pytest
import torch
from naive import gradients, mean_of, relative_error, token_nlls
from transformers import AutoModelForCausalLM, GPTNeoConfig, MistralConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from unlearning.data.layout import Answer, Tree, make_batch
from unlearning.data.parts import ALL
from unlearning.models.decoder import decode, output_head
from unlearning.models.tree_masks import attention_masks
from unlearning.models.trial import takes_tree_rows, why_no_tree_rows
from unlearning.types import Batch

SHAPE = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 1,
    "max_position_embeddings": 128, "initializer_range": 0.3,
}  # fmt: skip
SLIDING = {
    "mistral": {"sliding_window": 16},
    "qwen2": {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    "phi3": {"sliding_window": 16},
    "gemma3_text": {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]},
    "exaone4": {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]},
}
SEQUENCE = tuple(torch.randperm(90, generator=torch.Generator().manual_seed(1)).add(2).tolist())
TREES = [
    Tree(
        SEQUENCE[:30],
        (Answer("forget", 0, SEQUENCE[30:42]), Answer("mismatch", 0, SEQUENCE[42:60])),
    ),
    Tree(SEQUENCE[60:70], (Answer("retain", 1, SEQUENCE[70:90]),)),
]
PAIRS = [(tree.prompt_ids, answer.ids) for tree in TREES for answer in tree.answers]


def make(kind: str, attention: str = "sdpa"):
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](**SHAPE, **SLIDING[kind])
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


def mean_nll(model, batch: Batch) -> torch.Tensor:
    """Of all answers, each a mean over its tokens."""
    hidden = decode(model, batch.rows).flatten(0, 1)
    weight, bias, _ = output_head(model)
    means = []
    for answers in batch.answers.values():
        logits = torch.nn.functional.linear(hidden[answers.loss_index], weight, bias)
        nll = torch.nn.functional.cross_entropy(logits, answers.targets, reduction="none")
        means += [nll[answers.sequence == n].mean() for n in range(answers.num_sequences)]
    return torch.stack(means).mean()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", SLIDING)
def test_loss_and_gradient_beyond_the_window(kind, attention):
    model = make(kind, attention)
    assert takes_tree_rows(model)
    naive = mean_of(token_nlls(model, pair).mean() for pair in PAIRS)
    wanted = gradients(naive, model)
    for layout in ("tree", "padded"):
        batch = make_batch(TREES, layout, pad_token_id=1, forwards=[ALL])
        assert len(batch.rows.input_ids) == (1 if layout == "tree" else 3)
        loss = mean_nll(model, batch)
        torch.testing.assert_close(loss, naive, atol=1e-5, rtol=1e-5)
        assert relative_error(gradients(loss, model), wanted) < 1e-4


def test_a_windows_distance_is_that_of_positions():
    """By hand: a window of 2 after a prompt of two tokens and two answers."""
    model = AutoModelForCausalLM.from_config(MistralConfig(**SHAPE, sliding_window=2))
    tree = Tree((5, 6), (Answer("forget", 0, (7, 8, 2)), Answer("mismatch", 0, (9, 10, 2))))
    rows = make_batch([tree], "tree", pad_token_id=1).rows
    assert rows.position_ids.tolist() == [[0, 1, 2, 3, 2, 3]]
    visible = [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 1, 0, 0, 1, 0],  # the second answer's first token follows the prompt as well
        [0, 0, 0, 0, 1, 1],
    ]
    assert attention_masks(model, rows).int().tolist() == [[visible]]
    model.config.sliding_window, model.config.attention_chunk_size = None, 2
    chunks = attention_masks(model, rows)[0, 0].int().tolist()
    assert chunks[2:4] == [[0, 0, 1, 0, 0, 0], [0, 0, 1, 1, 0, 0]]
    assert chunks[4:] == [[0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 1, 1]]
    model.config.layer_types = ["chunked_attention", "full_attention"]
    masks = attention_masks(model, rows)
    assert masks["full_attention"].equal(rows.attention_mask)
    assert masks["chunked_attention"][0, 0].int().tolist() == chunks


def test_a_wrong_window_is_seen_by_the_trial(monkeypatch):
    """A decoder that keeps another window than the one its mask was made with."""
    model = make("mistral")
    assert takes_tree_rows(model)
    assert model.config.sliding_window == 16  # made small for the trial only
    monkeypatch.setattr("unlearning.models.decoder.attention_masks", lambda _, r: r.attention_mask)
    assert "others than in padded rows" in why_no_tree_rows(model)


def test_windows_that_no_mask_can_hold():
    neo = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "vocab_size": 96}
    config = GPTNeoConfig(**neo, attention_types=[[["global", "local"], 1]], window_size=16)
    assert why_no_tree_rows(AutoModelForCausalLM.from_config(config)).endswith("window_size=16")
    model = make("gemma3_text")
    model.config.layer_types = ["linear_attention", "full_attention"]
    assert why_no_tree_rows(model) == "it has layers of linear_attention"
