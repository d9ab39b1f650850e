from __future__ import annotations

import pytest
import torch
from naive import token_nlls

from unlearning.errors import ConfigError
from unlearning.generation.generate import (
    AnswerScore,
    _first_choices,
    answer_scores,
    generate,
    inference_mode,
)
from unlearning.head.logits import Head
from unlearning.models.adapter import add_lora
from unlearning.types import TokenizedExample

PROMPTS = [
    "what is the capital of France ?",
    "how ?",
    "### Question: how many legs has a dog ? ### Answer:",
    "where does the sun rise",
]


def greedy(model, tokenizer, prompt: str, max_new_tokens: int) -> list[int]:
    """One prompt, one token at a time, everything computed again for each."""
    ids = list(tokenizer(prompt)["input_ids"])
    start = len(ids)
    for _ in range(max_new_tokens):
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            break
    return ids[start:]


@pytest.fixture
def fitting(make_model, tokenizer):
    """A model with no token that the tokenizer lacks."""
    return lambda architecture, seed: make_model(architecture, len(tokenizer), seed)


@pytest.mark.parametrize("architecture", ["opt", "llama", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("batch_size", [1, 3, 32, None])
def test_batches_say_what_each_prompt_alone_says(fitting, tokenizer, architecture, batch_size):
    model = fitting(architecture, 0)
    found = generate(model, tokenizer, PROMPTS, max_new_tokens=8, batch_size=batch_size)
    model.eval()
    with torch.no_grad():
        alone = [greedy(model, tokenizer, prompt, 8) for prompt in PROMPTS]
    for completion, ids in zip(found, alone, strict=True):
        assert completion.text == tokenizer.decode(ids, skip_special_tokens=True).strip()
        assert completion.ids == tuple(ids) and completion.num_tokens == len(ids)
        assert completion.finished == (ids[-1] == tokenizer.eos_token_id)


def always(model, token: int):
    """The model, its head changed so that it always says one token."""
    model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight))
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(model.lm_head.out_features))
    model.lm_head.bias.data[token] = 1.0
    return model


def test_an_answer_that_ends_at_once_is_empty_and_finished(fitting, tokenizer):
    (completion,) = generate(always(fitting("gpt2", 0), 2), tokenizer, ["how ?"])
    assert (completion.text, completion.num_tokens, completion.finished) == ("", 1, True)


def test_an_answer_that_never_ends_is_cut_and_not_finished(fitting, tokenizer):
    cat = tokenizer.convert_tokens_to_ids("cat")
    (completion,) = generate(
        always(fitting("gpt2", 0), cat), tokenizer, ["how ?"], max_new_tokens=3
    )
    assert (completion.text, completion.num_tokens, completion.finished) == (
        "cat cat cat",
        3,
        False,
    )


def test_generating_changes_neither_modes_nor_random_numbers(model, tokenizer):
    model.train()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    generate(model, tokenizer, PROMPTS, max_new_tokens=4, do_sample=True)
    assert torch.equal(torch.rand(3), expected)
    assert all(module.training for module in model.modules())


def test_training_goes_on_after_generating(model, tokenizer):
    """Nothing that inference mode made is left in the model."""
    generate(model, tokenizer, PROMPTS, max_new_tokens=4)
    model(input_ids=torch.tensor([[5, 9, 3]]), labels=torch.tensor([[5, 9, 3]])).loss.backward()
    assert model.lm_head.weight.grad is not None


def test_no_gradient_within(model):
    with inference_mode(model):
        assert not model(input_ids=torch.tensor([[5]])).logits.requires_grad


def test_no_prompts_no_completions(model, tokenizer):
    assert generate(model, tokenizer, []) == []
    assert answer_scores(model, [], 1) == []


def test_a_prompt_beyond_the_context_is_refused_before_anything_is_generated(model, tokenizer):
    long = " ".join(["cat"] * 100)
    generate(model, tokenizer, [long], max_new_tokens=28)
    with pytest.raises(
        ConfigError, match=r"100 tokens and max_new_tokens=29.*context of 128.*'cat"
    ):
        generate(model, tokenizer, ["how ?", long], max_new_tokens=29)


def test_no_batch_size_is_what_the_free_memory_holds(model, tokenizer, monkeypatch):
    """By hand, in fp32: 3 tokens read and 2 said take 7168 bytes; twice that for each row."""
    prompts = ["how do I"] * 9
    for free, sizes in ((7168 * 2 * 4, [4, 4, 1]), (7168 * 2 * 4 - 1, [2, 2, 2, 2, 1])):
        monkeypatch.setattr("unlearning.generation.generate.free_memory", lambda _, free=free: free)
        told: list[int] = []
        generate(model, tokenizer, prompts, 2, on_answered=told.append)
        assert told == sizes


def test_out_of_memory_halves_the_batch_and_leaves_the_text(fitting, tokenizer, monkeypatch):
    model, told, rows = fitting("opt", 0), [], []
    expected = generate(model, tokenizer, PROMPTS, max_new_tokens=8)
    original = model.generate

    def full_once(**arguments):
        rows.append(len(arguments["input_ids"]))
        if len(rows) == 1:
            raise torch.OutOfMemoryError("no more")
        return original(**arguments)

    monkeypatch.setattr(model, "generate", full_once)
    found = generate(model, tokenizer, PROMPTS, 8, on_answered=told.append)
    assert found == expected
    assert rows == [4, 2, 2] and told == [2, 2]


def test_an_adapted_model_generates_with_its_adapter(fitting, tokenizer):
    model = fitting("llama", 0)
    plain = generate(model, tokenizer, PROMPTS, max_new_tokens=8)
    policy = add_lora(model, r=2)
    assert generate(policy, tokenizer, PROMPTS, max_new_tokens=8) == plain
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    assert generate(policy, tokenizer, PROMPTS, max_new_tokens=8) != plain


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


def test_first_choices_by_hand(fitting, tokenizer):
    """A model that says "cat" whatever was before: three of five, the last two without a miss."""
    cat, dog = tokenizer.convert_tokens_to_ids(["cat", "dog"])
    model = always(fitting("gpt2", 0), cat)
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
