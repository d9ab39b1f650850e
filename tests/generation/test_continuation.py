"""Like with like: completions and true continuations of the same length in tokens."""

from __future__ import annotations

import pytest
import sacrebleu
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import unlearning.generation.continuation as continuation
from unlearning.data.template import PromptTemplate
from unlearning.errors import ConfigError
from unlearning.generation.continuation import complete, cut, targets
from unlearning.generation.generate import Completion, generate
from unlearning.types import Example

TEXT = PromptTemplate("{prompt}", "", append_eos=False)
PASSAGES = [
    Example("what is the capital", " of France ? Paris"),
    Example("the sky", " is blue and the cat says meow . the dog has four legs"),
    Example("how many legs has a dog ?", " four"),
]


@pytest.fixture
def fitting(make_model, tokenizer):
    """No token that the tokenizer lacks."""
    return make_model("llama", len(tokenizer))


def test_a_completion_ends_where_the_true_text_ends(fitting, tokenizer):
    pairs = complete(fitting, tokenizer, PASSAGES, TEXT, max_new_tokens=64, batch_size=2)
    uncut = generate(fitting, tokenizer, [e.prompt for e in PASSAGES], max_new_tokens=13)
    for (said, true), whole, example in zip(pairs, uncut, PASSAGES, strict=True):
        assert true.text == example.response
        assert true.ids == tuple(tokenizer(example.response, add_special_tokens=False)["input_ids"])
        assert said.num_tokens == min(len(true.ids), whole.num_tokens)
        assert said.ids == whole.ids[: len(true.ids)]
        assert said.text == tokenizer.decode(said.ids, skip_special_tokens=True).strip()
    assert [len(true.ids) for _, true in pairs] == [4, 13, 1]


def test_the_true_text_ends_where_the_model_has_to(fitting, tokenizer):
    pairs = complete(fitting, tokenizer, PASSAGES, TEXT, max_new_tokens=5)
    assert [true.text.split() for _, true in pairs] == [
        ["of", "France", "?", "Paris"],
        ["is", "blue", "and", "the", "cat"],
        ["four"],
    ]
    assert pairs[0][1].text == PASSAGES[0].response  # to the letter
    assert all(said.num_tokens <= len(true.ids) for said, true in pairs)


@pytest.mark.parametrize(("limit", "asked"), [(64, 13), (5, 5)])
def test_no_token_is_generated_in_vain(fitting, tokenizer, monkeypatch, limit, asked):
    seen = []

    def spy(*arguments, **options):
        seen.append(arguments[3])
        return generate(*arguments, **options)

    monkeypatch.setattr(continuation, "generate", spy)
    complete(fitting, tokenizer, PASSAGES, TEXT, limit)
    complete(fitting, tokenizer, PASSAGES, PromptTemplate("{prompt}"), limit)
    assert seen == [asked, limit]


def test_a_perfect_copy_scores_100_however_long_the_text_is(fitting, tokenizer):
    """The model's own text taken for the book: without the cut, BLEU would be far below."""
    words = sorted(tokenizer.get_vocab())
    said = generate(fitting, tokenizer, words, 40)
    whole = [
        (prompt, completion)
        for prompt, completion in zip(words, said, strict=True)
        if not set(completion.ids) & set(tokenizer.all_special_ids)
    ]
    assert len(whole) > 3
    book = [
        Example(prompt, " " + " ".join(completion.text.split()[: 10 + 3 * n]))
        for n, (prompt, completion) in enumerate(whole[:4])
    ]
    for limit in (64, 12):
        pairs = complete(fitting, tokenizer, book, TEXT, limit)
        texts = [[said.text for said, _ in pairs], [true.text for _, true in pairs]]
        assert sacrebleu.corpus_bleu(texts[0], [texts[1]]).score == pytest.approx(100)
        assert [said.ids for said, _ in pairs] == [true.ids for _, true in pairs]


def test_answers_to_questions_are_left_as_they_are(fitting, tokenizer):
    template = PromptTemplate("Question: {prompt} Answer:")
    pairs = complete(fitting, tokenizer, PASSAGES, template, max_new_tokens=7)
    prompts = [template.prompt(e.prompt) for e in PASSAGES]
    assert [said for said, _ in pairs] == generate(fitting, tokenizer, prompts, 7)
    assert [true.text for _, true in pairs] == [e.response for e in PASSAGES]
    assert len(pairs[1][1].ids) == 13  # all of it, beyond the limit too, and no end token


def test_what_is_cut_off_was_not_finished(tokenizer):
    ids = tokenizer("the cat says")["input_ids"]
    whole = Completion("the cat says", (*ids, tokenizer.eos_token_id), True)
    assert cut(whole, 4, tokenizer) is whole
    for length, text in ((3, "the cat says"), (2, "the cat"), (0, "")):
        kept = cut(whole, length, tokenizer)
        assert (kept.text, kept.num_tokens, kept.finished) == (text, length, False)


def test_a_model_that_ends_at_once_has_finished(fitting, tokenizer):
    weight = torch.zeros_like(fitting.lm_head.weight)
    fitting.lm_head.weight = torch.nn.Parameter(weight)
    fitting.lm_head.bias = torch.nn.Parameter(torch.eye(len(weight))[tokenizer.eos_token_id])
    for said, _ in complete(fitting, tokenizer, PASSAGES, TEXT):
        assert (said.text, said.num_tokens, said.finished) == ("", 1, True)


def test_no_examples_no_completions(fitting, tokenizer):
    assert complete(fitting, tokenizer, [], TEXT) == []
    assert targets([], tokenizer, TEXT, 4) == []


def test_a_passage_beyond_the_context_is_refused(fitting, tokenizer):
    long = Example(" ".join(["cat"] * 100), " dog" * 29)
    assert complete(fitting, tokenizer, [long], TEXT, 28)
    with pytest.raises(ConfigError, match=r"100 tokens and max_new_tokens=29.*context of 128"):
        complete(fitting, tokenizer, [long], TEXT, 64)


def byte_level(text: str) -> PreTrainedTokenizerFast:
    """A small byte-level BPE, as GPT-2's and OPT's: the space belongs to the word after it."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["</s>"], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator([text], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>")


@pytest.mark.parametrize("limit", range(1, 40))
def test_bytes_and_white_space_are_cut_alike_on_both_sides(limit):
    """At every length, in the middle of a character too, a copy is the true text."""
    passage = ' the wind , said "Zoë" .\n\n  Then — silence'
    bpe = byte_level("then the wind said then the wind")
    (true,) = targets([Example("Hear", passage)], bpe, TEXT, limit)
    ids = tuple(bpe(passage)["input_ids"])
    assert true.ids == ids[:limit]
    said = cut(Completion(passage.strip(), (*ids, bpe.eos_token_id), True), len(true.ids), bpe)
    assert said.text == true.text.strip()
    if limit < len(ids):
        assert passage.startswith(true.text.rstrip("\ufffd"))
    else:
        assert true.text == passage
