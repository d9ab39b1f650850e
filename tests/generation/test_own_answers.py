"""A model's own answers: the tokens it generated, and nothing else, are trained on."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import tiny_model
from naive import answer_log_probs, mean_of, retain_loss

from unlearning.data.encode import encode_prompts
from unlearning.data.records.source import fingerprint
from unlearning.data.stored_examples import store
from unlearning.data.template import PromptTemplate
from unlearning.data.tokenize import tokenize_examples
from unlearning.errors import ConfigError
from unlearning.generation.own_answers import OwnAnswers, distinct_prompts, own_answers
from unlearning.generation.sampling import Sampling
from unlearning.module import UnlearningModule
from unlearning.types import Example

TEMPLATE = PromptTemplate()
NEW = 9


@pytest.fixture(scope="module")
def fitting(tokenizer):
    return tiny_model("llama", len(tokenizer), 3).double().eval()


@pytest.fixture(scope="module")
def found(fitting, tokenizer, retain_examples) -> OwnAnswers:
    """Some of which end, while others are cut."""
    return own_answers(
        fitting, tokenizer, retain_examples, TEMPLATE, NEW, batch_size=3, keep_broken=True
    )


def of_transformers(model, tokenizer, example: Example) -> list[int]:
    """The greedy answer to one unpadded prompt."""
    (prompt,) = encode_prompts([example], tokenizer, TEMPLATE)
    with torch.no_grad():
        row = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False, max_new_tokens=NEW, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
    return row[0, len(prompt) :].tolist()


def test_greedy_answers_are_those_of_transformers(found, fitting, tokenizer, retain_examples):
    expected = [of_transformers(fitting, tokenizer, each) for each in retain_examples]
    assert [list(each.response_ids) for each in found.examples] == expected
    assert [each.prompt for each in found.examples] == [each.prompt for each in retain_examples]
    ended = [ids[-1] == tokenizer.eos_token_id for ids in expected]
    assert any(ended) and not all(ended)
    assert found.cut == len(ended) - sum(ended)


def test_they_are_trained_on_in_the_tokens_that_were_generated(
    found, make_data, tokenizer, forget_examples
):
    data = make_data()
    data.retain = found.examples
    data.setup()
    own = [each.response_ids for each in found.examples]
    for number in range(8):
        batch = data.batch_at(number)
        for role in ("retain", "mismatch"):
            answers = batch.answers[role]
            for place, example in enumerate(answers.examples):
                targets = tuple(answers.targets[answers.sequence == place].tolist())
                assert targets == own[example]
    # An answer that was cut has no end token: the model did not end there.
    cut = [ids for ids in own if len(ids) == NEW and ids[-1] != tokenizer.eos_token_id]
    assert cut and all(tokenizer.eos_token_id not in ids for ids in cut)


def test_the_pools_of_retain_and_mismatch_can_differ(found, make_data, retain_examples):
    data = make_data(mismatch_from=found.examples)
    data.setup()
    gold = data.sequences["retain"]
    own = {each.response_ids for each in found.examples}
    for number in range(6):
        batch = data.batch_at(number)
        for role, among in (("retain", {s.response_ids for s in gold}), ("mismatch", own)):
            answers = batch.answers[role]
            for place in range(answers.num_sequences):
                assert tuple(answers.targets[answers.sequence == place].tolist()) in among
    assert data.fingerprints["mismatch"] == fingerprint(found.examples)


def test_the_kl_on_them_is_that_of_a_naive_computation(found, fitting, make_data):
    policy = copy.deepcopy(fitting)
    terms = {"retain": {"loss": "unlearning.losses.kl_to_reference", "role": "retain"}}
    module = UnlearningModule(policy, terms, reference_model=fitting, reference="copy")
    with torch.no_grad():
        for parameter in module.policy.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    module.double()
    data = make_data(retain_batch_size=3)
    data.retain = found.examples
    data.setup()
    batch = data.batch_at(1)
    pairs = [
        (data.sequences["retain"][n].prompt_ids, found.examples[n].response_ids)
        for n in batch.answers["retain"].examples
    ]
    expected = retain_loss(module.policy, fitting, pairs)
    assert expected.detach() > 0.01
    torch.testing.assert_close(module.loss(batch).total, expected, rtol=1e-9, atol=1e-12)


def test_the_model_prefers_its_own_answers(found, fitting, tokenizer):
    """Greedy: at every position the generated token is the most likely one."""
    (first, *_) = found.examples
    (prompt,) = encode_prompts([first], tokenizer, TEMPLATE)
    log_probs = answer_log_probs(fitting, (prompt, first.response_ids))
    assert log_probs.argmax(-1).tolist() == list(first.response_ids)
    assert mean_of(log_probs.max(-1).values).isfinite()


def test_empty_and_broken_answers_are_dropped_and_counted(monkeypatch, tokenizer):
    from unlearning.generation import own_answers as module
    from unlearning.generation.generate import Completion

    loop = "the cat says the cat says the cat says the cat says"
    said = [
        Completion("meow", (40, 2), True),
        Completion("", (2,), True),
        Completion(" . ", (41, 2), True),
        Completion(loop, tuple(range(20, 32)), False),
        Completion("four", (), True),  # before a stop string in the first token
        Completion("blue", (42,), False),
    ]
    monkeypatch.setattr(module, "generate", lambda *_, **__: said)
    asked = [Example(f"is the sun {n} ?", "") for n in range(6)]
    found = own_answers(None, tokenizer, asked, TEMPLATE)  # type: ignore[arg-type]
    assert [each.response for each in found.examples] == ["meow", "blue"]
    assert found.facts() == {"asked": 6, "kept": 2, "cut": 1, "empty": 3, "broken": 1}
    assert found.notes() == [
        "Of 6 own answers of the model 3 empty and 1 broken ones were left out.",
        "1 own answers of the model were cut at their token limit.",
    ]
    kept = own_answers(None, tokenizer, asked, TEMPLATE, keep_broken=True)  # type: ignore[arg-type]
    assert [each.response for each in kept.examples] == ["meow", loop, "blue"]


def test_several_answers_to_a_prompt_are_drawn(fitting, tokenizer, retain_examples):
    drawn = own_answers(
        fitting, tokenizer, retain_examples, TEMPLATE, NEW, keep_broken=True, samples=3,
        sampling=Sampling(seed=1),
    )  # fmt: skip
    assert drawn.asked == 3 * len(retain_examples)
    said: dict[str, set[tuple[int, ...]]] = {}
    for each in drawn.examples:
        said.setdefault(each.prompt, set()).add(each.response_ids)
    assert sum(len(answers) for answers in said.values()) > 2 * len(said)  # few are drawn twice
    with pytest.raises(ConfigError, match="samples=3 greedy answers"):
        own_answers(fitting, tokenizer, retain_examples, TEMPLATE, NEW, samples=3)


def test_each_prompt_is_asked_once():
    turns = (("user", "is it ?"), ("assistant", "yes"))
    examples = [Example("a", "1"), Example("b", "2"), Example("a", "3")]
    examples.append(Example("a", "4", turns=turns))
    assert distinct_prompts(examples) == [examples[0], examples[1], examples[3]]


def test_generated_tokens_are_kept_stored_and_part_of_what_an_example_is(tokenizer, tmp_path):
    text = Example("what says a cat ?", "meow")
    own = Example("what says a cat ?", "meow", response_ids=(40, 41))
    assert store([text, own])[1] == own and store([text, own])[0] == text
    assert fingerprint([text]) != fingerprint([own])
    other = Example("what says a cat ?", "meow", response_ids=(40, 42))
    for example in (text, own, other):  # one cache folder: none takes another's tokens
        (sequence,) = tokenize_examples([example], tokenizer, TEMPLATE, 32, tmp_path).sequences
        end = (tokenizer.eos_token_id,)
        written = tuple(tokenizer(" meow", add_special_tokens=False)["input_ids"]) + end
        assert sequence.response_ids == (example.response_ids or written)
