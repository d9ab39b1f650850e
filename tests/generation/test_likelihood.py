from __future__ import annotations

import pytest
import torch
from naive import token_nlls
from transformers import AutoModelForCausalLM, BloomConfig, Gemma3TextConfig, MistralConfig

from tests.generation.test_generate import always
from unlearning.generation.likelihood import AnswerScore, _first_choices, answer_scores
from unlearning.head.logits import Head
from unlearning.models.trial import takes_tree_rows
from unlearning.types import TokenizedExample


def test_no_answers_no_scores(model):
    assert answer_scores(model, [], 1) == []


@pytest.mark.parametrize("architecture", ["opt", "llama", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("batch_size", [1, 2, 8, None])
def test_the_nll_of_an_answer_is_the_naive_one(make_model, architecture, batch_size):
    model = make_model(architecture)
    pairs = [((5, 9, 3), (7, 8)), ((4,), (11, 12, 13, 14)), ((6, 7, 8, 9, 10), (30,))]
    found = answer_scores(model, [TokenizedExample(*pair) for pair in pairs], 1, batch_size)
    model.eval()
    with torch.no_grad():
        expected = [token_nlls(model, pair).sum().item() for pair in pairs]
    assert [score.nll for score in found] == pytest.approx(expected, rel=1e-5)
    assert [score.tokens for score in found] == [2, 4, 1]


@pytest.mark.parametrize("architecture", ["opt", "llama"])
@pytest.mark.parametrize("batch_size", [1, 2, None])
def test_answers_to_one_prompt_share_its_computation(make_model, architecture, batch_size):
    """Naive NLLs whatever shares a row, of a fourth of the positions."""
    model = make_model(architecture)
    first, second = (5, 9, 3, 6, 7, 12, 13, 14), (4, 8)
    pairs = [
        (first, (7, 8)), (first, (20,)), (first, (11, 12, 13)), (first, (21,)),
        (second, (30, 31)), (second, (30, 32)), (first, (9, 2)),
    ]  # fmt: skip
    seen: list[int] = []
    inner = model.get_decoder()
    handle = inner.register_forward_pre_hook(
        lambda _module, _args, given: seen.append(given["input_ids"].numel()), with_kwargs=True
    )
    sequences = [TokenizedExample(*pair) for pair in pairs]
    found = answer_scores(model, sequences, 1, batch_size, end_token_id=2)
    handle.remove()
    model.eval()
    with torch.no_grad():
        expected = [token_nlls(model, pair) for pair in pairs]
        rows = [model(input_ids=torch.tensor([[*p, *a]])).logits[0] for p, a in pairs]
    assert [s.nll for s in found] == pytest.approx([e.sum().item() for e in expected], rel=1e-5)
    assert [s.tokens for s in found] == [2, 1, 3, 1, 2, 2, 2]
    assert found[-1].end_nll == pytest.approx(expected[-1][-1].item(), rel=1e-5)
    assert all(score.end_nll == 0 for score in found[:-1])
    for score, (prompt, answer), logits in zip(found, pairs, rows, strict=True):
        said = logits[len(prompt) - 1 : -1].argmax(-1)
        assert score.matches == int((said == torch.tensor(answer)).sum())
    tried = sum(len(p) + len(a) for p, a in pairs)
    if batch_size == 1:  # the tries on a few tokens aside, no prompt is computed twice
        assert seen[-3:] == [11, 9, 4] and sum(seen[-3:]) < tried / 2


WINDOW = 4
SHAPE = {"vocab_size": 96, "hidden_size": 32, "bos_token_id": 0, "eos_token_id": 2}
GROUPED = {**SHAPE, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
           "intermediate_size": 48, "sliding_window": WINDOW}  # fmt: skip
LAYERS = ["sliding_attention", "full_attention"]


@pytest.mark.parametrize(
    ("config", "in_trees"),
    [
        (Gemma3TextConfig(**GROUPED, head_dim=8, layer_types=LAYERS), True),
        (MistralConfig(**GROUPED), True),
        (BloomConfig(**SHAPE, n_layer=2, n_head=4), False),  # positions from the mask alone
    ],
)
def test_choices_are_scored_alike_past_a_window_and_without_tree_rows(config, in_trees):
    torch.manual_seed(0)
    config.initializer_range = 0.3
    model = AutoModelForCausalLM.from_config(config).eval()
    assert takes_tree_rows(model) == in_trees
    prompt = tuple(range(10, 10 + 3 * WINDOW))
    pairs = [(prompt, (7, 8)), (prompt, (20,)), (prompt, tuple(range(30, 37))), ((5,), (9, 11))]
    found = answer_scores(model, [TokenizedExample(*pair) for pair in pairs], 1)
    with torch.no_grad():
        expected = [token_nlls(model, pair).sum().item() for pair in pairs]
    assert [score.nll for score in found] == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def said_from(model, ids, number: int) -> list[int]:
    """`number` first choices, one after the other, each from all logits of the whole row."""
    row = list(ids)
    for _ in range(number):
        row.append(int(model(input_ids=torch.tensor([row])).logits[0, -1].argmax()))
    return row[len(ids) :]


def shortest_beginning(model, prompt, answer) -> int:
    """The definition: the fewest true tokens after which the model says the rest by itself."""
    return next(
        k
        for k in range(len(answer) + 1)
        if said_from(model, [*prompt, *answer[:k]], len(answer) - k) == list(answer[k:])
    )


def half_known(model, prompt, parts) -> tuple[int, ...]:
    """An answer of tokens that the model is told and of ones that it adds itself, in turns."""
    ids: list[int] = []
    for told, added in parts:
        ids += told
        ids += said_from(model, [*prompt, *ids], added)
    return tuple(ids)


@pytest.mark.parametrize("architecture", ["opt", "llama", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("batch_size", [1, 8])
def test_what_is_known_by_heart_is_what_greedy_decoding_says(make_model, architecture, batch_size):
    """Extraction strength by its definition, and first choices counted in all logits."""
    model = make_model(architecture).eval()
    prompts = [(5, 9, 3), (4,), (6, 7, 8, 9, 10), (11, 12), (20, 21)]
    parts = [
        [([7, 8], 4)],  # known after two tokens
        [([], 5)],  # known from the start
        [([30], 3), ([31, 32], 0)],  # known in the middle only
        [([40, 41, 42], 0)],
        [([50], 2), ([51], 3)],
    ]
    answers = [half_known(model, *pair) for pair in zip(prompts, parts, strict=True)]
    pairs = list(zip(prompts, answers, strict=True))
    found = answer_scores(model, [TokenizedExample(*pair) for pair in pairs], 1, batch_size)
    for score, (prompt, answer) in zip(found, pairs, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0]
        first = logits[len(prompt) - 1 : -1].argmax(-1)
        assert score.matches == int((first == torch.tensor(answer)).sum())
        assert score.suffix == len(answer) - shortest_beginning(model, prompt, answer)
    assert found[1].suffix == found[1].matches == found[1].tokens == 5
    assert found[0].suffix >= 4 and found[4].suffix >= 3
    assert found[2].suffix < found[2].matches  # known, but not up to the end


def test_first_choices_by_hand(make_model, tokenizer):
    """A model that says "cat" whatever was before: three of five, the last two without a miss."""
    cat, dog = tokenizer.convert_tokens_to_ids(["cat", "dog"])
    model = always(make_model("gpt2", len(tokenizer), 0), cat)
    answers = [(cat, dog, dog, cat, cat), (cat, cat), (cat, dog), (dog,)]
    found = answer_scores(model, [TokenizedExample((dog,), answer) for answer in answers], 1)
    assert [(s.tokens, s.matches, s.suffix) for s in found] == [
        (5, 3, 2), (2, 2, 2), (2, 1, 0), (1, 0, 0),
    ]  # fmt: skip
    assert isinstance(found[0], AnswerScore)


@pytest.mark.parametrize("bias", [True, False])
def test_first_choices_do_not_depend_on_the_chunks(bias):
    torch.manual_seed(0)
    hidden, head = torch.randn(7, 4), Head(torch.randn(9, 4), torch.randn(9) if bias else None)
    expected = torch.nn.functional.linear(hidden, head.weight, head.bias).argmax(-1)
    for size in (1, 3, 7, 512):
        assert torch.equal(_first_choices(hidden, head, size), expected)
