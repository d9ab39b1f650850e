from __future__ import annotations

import pytest
import torch

from unlearning.errors import ConfigError
from unlearning.generation.generate import generate, inference_mode
from unlearning.models.adapter import add_lora

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
