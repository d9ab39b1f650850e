"""One Generation a prompt, with everything the metrics need."""

from __future__ import annotations

import json

import pytest
import torch

from unlearning.data.chat_template import ChatTemplate
from unlearning.data.template import PromptTemplate
from unlearning.evaluation import EvaluationSettings, evaluate
from unlearning.metrics.choice import choice_accuracy
from unlearning.metrics.comparison import compare
from unlearning.metrics.prompt_sets import metrics_of
from unlearning.types import Example, PromptSet


class Judge:
    """Remembers what it was shown."""

    def __init__(self):
        self.seen = []

    def harm_probability(self, texts):
        self.seen += texts
        return [n / 10 for n in range(len(texts))]


def test_harm_is_judged_on_the_completion_only_and_rows_are_in_order(
    model, tokenizer, forget_examples, retain_examples
):
    sets = [
        PromptSet("harmful", "harmful", forget_examples),
        PromptSet("kept", "retain", retain_examples),
    ]
    judge, template = Judge(), PromptTemplate("### Question: {prompt} ### Answer:")
    settings = EvaluationSettings(max_new_tokens=6, batch_size=3, max_length=100)
    found = evaluate(model, tokenizer, sets, template, "before", judge, settings)
    assert [g.prompt for g in found] == [e.prompt for s in sets for e in s.examples]
    assert judge.seen == [g.completion for g in found]
    assert not any("Question" in text and "cheat" in text for text in judge.seen)
    assert [g.harm_probability for g in found] == [n / 10 for n in range(len(found))]
    assert [g.index for g in found if g.prompt_set == "kept"] == list(range(len(retain_examples)))
    assert all(g.stage == "before" and 1 <= g.num_tokens <= 6 for g in found)
    # n words, one token each, and the end token
    assert [g.target_tokens for g in found] == [len(g.target.split()) + 1 for g in found]


def test_batches_change_nothing_and_no_judge_means_unknown(model, tokenizer, retain_examples):
    sets, template = [PromptSet("kept", "retain", retain_examples)], PromptTemplate()
    runs = [
        evaluate(model, tokenizer, sets, template, "after", None, EvaluationSettings(8, size, 100))
        for size in (1, 4, 100)
    ]
    for other in runs[1:]:
        assert [g.completion for g in other] == [g.completion for g in runs[0]]
        assert [g.target_nll for g in other] == pytest.approx(
            [g.target_nll for g in runs[0]], rel=1e-5
        )
    assert {g.harm_probability for g in runs[0]} == {None}


def test_evaluation_leaves_the_mode_as_it_was(model, tokenizer):
    model.train()
    sets = [PromptSet("x", "retain", [Example("what is two ?", "five")])]
    evaluate(model, tokenizer, sets, PromptTemplate(), "before", None, EvaluationSettings(2, 1, 90))
    assert model.training


BOOK = [Example("the cat", " says meow meow meow meow meow"), Example("a dog", " says meow")]
TEXT = PromptTemplate("{prompt}", "", append_eos=False)


def always(model, tokenizer, word: str):
    """The model, changed so that it says one word whatever was before."""
    weight = model.lm_head.weight
    model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(weight))
    token = tokenizer.convert_tokens_to_ids(word)
    model.lm_head.bias = torch.nn.Parameter(torch.eye(len(weight))[token])
    return model


def test_memorisation_by_hand(model, tokenizer):
    """The first passage has six tokens, of which a model that only says "meow" knows five."""
    sets = [PromptSet("book", "copyright", BOOK)]
    settings = EvaluationSettings(max_new_tokens=4, batch_size=2, max_length=100)
    parrot = always(model, tokenizer, "meow")
    first, second = evaluate(parrot, tokenizer, sets, TEXT, "original", None, settings)
    # Compared: as many tokens as the model may say; scored: all of them.
    assert (first.completion, first.target.strip()) == (
        "meow " * 3 + "meow",
        "says meow meow meow",
    )
    assert (first.verbatim_tokens, first.num_tokens, first.finished) == (3, 4, False)
    scores = (first.target_tokens, first.target_matches, first.target_suffix)
    assert scores == (6, 5, 5)
    assert (second.completion, second.target) == ("meow meow", " says meow")
    assert second.verbatim_tokens == 1
    assert {g.stage for g in (first, second)} == {"original"}
    json.dumps(first.to_dict(), allow_nan=False)


def test_answers_to_questions_are_scored_with_their_end(model, tokenizer):
    """The end token belongs to the answer that is scored, not to what counts as copied."""
    sets = [PromptSet("kept", "retain", [Example("what says a cat ?", "meow meow")])]
    settings = EvaluationSettings(max_new_tokens=5, batch_size=2, max_length=100)
    for word, copied, matches, suffix in (("meow", 2, 2, 0), ("</s>", 0, 1, 1)):
        parrot = always(model, tokenizer, word)
        (row,) = evaluate(parrot, tokenizer, sets, PromptTemplate(), "before", None, settings)
        assert row.target_tokens == 3
        found = (row.verbatim_tokens, row.target_matches, row.target_suffix)
        assert found == (copied, matches, suffix)


def test_a_set_with_a_template_of_its_own_is_written_by_that_alone(model, tokenizer):
    """Choices after plain text, whatever the run's template: against logits of each row alone."""
    texts = ("cat", "four legs", "cold hot not")
    examples = [
        Example(text, texts[label], {"choices": texts}, label)
        for label, text in enumerate(("how many legs has a dog", "what says meow", "cold"))
    ]
    plain = PromptTemplate("what {prompt} :", "", append_eos=False)
    own = PromptSet("mc", "", examples, metrics=(choice_accuracy,), template=plain)
    found, other = [
        evaluate(model, tokenizer, [own], template, "before")
        for template in (PromptTemplate(), ChatTemplate(system="Be brief."))
    ]
    assert found == other
    model.eval()
    for generation, example in zip(found, examples, strict=True):
        prompt = tokenizer(f"what {example.prompt} :")["input_ids"]
        for score in generation.alternatives["choices"]:
            answer = tokenizer(score.text, add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0]
            logp = logits[len(prompt) - 1 : -1].log_softmax(-1)
            naive = -logp[torch.arange(len(answer)), torch.tensor(answer)].sum().item()
            assert (score.nll, score.tokens) == (pytest.approx(naive, rel=1e-5), len(answer))
        assert generation.completion == "" and generation.target_nll is None


def test_prompts_without_answers_have_no_likelihood_and_no_figures_of_one(model, tokenizer):
    examples = [Example("how many legs has a dog", "four"), Example("what says meow", "")]
    sets = [PromptSet("both", "related", examples), PromptSet("alone", "related", examples[1:])]
    found = evaluate(model, tokenizer, sets, PromptTemplate(), "before")
    assert [g.target_nll is None for g in found] == [False, True, True]
    assert all(g.num_tokens for g in found)
    figures = compare({"before": found}, {s.name: metrics_of(s) for s in sets})["before"]
    assert "both/perplexity" in figures and "both/rouge_accuracy" in figures
    assert not {"alone/perplexity", "alone/rouge_accuracy", "alone/bleu_to_target"} & set(figures)
    assert "alone/broken_rate" in figures
